"""How good searches and predictions are, with rivals to judge them by. No job runs any of it."""
