"""What a user asks for as a whole: a run, a plan, a comparison, an answer to what-if."""
