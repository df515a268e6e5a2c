"""Playlists of an encrypted package, from those of the clear one; pure.

Only what encryption changes is changed: keys, byte ranges of key frames, and rates.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from encoder.package.dash import NAMESPACE
from encoder.package.protection import SCHEME, Protection

CENC = "urn:mpeg:cenc:2013"
_COMMON_SYSTEM = "urn:uuid:1077efec-c0b2-4d02-ace3-3c1e52e2fb4b"
_SWITCHING = "urn:mpeg:dash:adaptation-set-switching:2016"
_RANGE = re.compile(r"^#EXT-X-BYTERANGE:.*$", re.MULTILINE)


def key_tag(protection: Protection, uri: str | None) -> str:
    """Return the ``EXT-X-KEY`` of a track.

    Without a URI of a key server it names the id of the key, as Shaka Packager's does.
    """
    named = base64.b64encode(protection.key_id).decode()
    where = uri or f"data:text/plain;base64,{named}"
    return (
        f'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="{where}",IV=0x{protection.iv.hex().upper()},'
        'KEYFORMAT="identity"'
    )


def with_key(playlist: str, tag: str) -> str:
    """Return a media playlist whose segments are encrypted, but not its init segment."""
    lines = playlist.splitlines()
    places = [n for n, line in enumerate(lines) if line.startswith("#EXT-X-MAP")]
    for place in reversed(places):
        lines.insert(place + 1, tag)
    return "\n".join(lines) + "\n"


def with_ranges(playlist: str, ranges: Sequence[tuple[int, int]]) -> str:
    """Return a playlist of key frames with other sizes and offsets, in order."""
    left = iter(ranges)

    def written(_: re.Match[str]) -> str:
        size, offset = next(left)
        return f"#EXT-X-BYTERANGE:{size}@{offset}"

    return _RANGE.sub(written, playlist)


def with_rates(master: str, rates: Mapping[str, tuple[int, int]]) -> str:
    """Return a multivariant playlist with other rates.

    Args:
        master: The playlist.
        rates: ``BANDWIDTH`` and ``AVERAGE-BANDWIDTH`` by the URI of each variant.
    """
    lines = master.splitlines()
    for number, line in enumerate(lines):
        uri = ""
        if line.startswith("#EXT-X-STREAM-INF"):
            uri = lines[number + 1]
        elif line.startswith("#EXT-X-I-FRAME-STREAM-INF") and (
            found := re.search(r'URI="([^"]*)"', line)
        ):
            uri = found[1]
        if uri in rates:
            peak, average = rates[uri]
            line = re.sub(r"([:,])BANDWIDTH=\d+", rf"\g<1>BANDWIDTH={peak}", line)
            lines[number] = re.sub(r"AVERAGE-BANDWIDTH=\d+", f"AVERAGE-BANDWIDTH={average}", line)
    return "\n".join(lines) + "\n"


def protected_manifest(
    manifest: str, bandwidths: Mapping[str, int], protections: Mapping[str, Protection]
) -> str:
    """Return a DASH manifest of encrypted tracks.

    Rungs of different keys get adaptation sets of their own, between which players may switch.

    Args:
        manifest: The clear manifest.
        bandwidths: Bandwidth of each representation, by its id.
        protections: How each of them is encrypted.
    """
    for prefix, uri in (("", NAMESPACE), ("cenc", CENC), ("scte35", "urn:scte:scte35:2013:xml")):
        ET.register_namespace(prefix, uri)
    root = ET.fromstring(manifest)
    (period,) = root.iterfind(_tag("Period"))
    children = list(period)
    for child in children:
        period.remove(child)
    numbers = iter(range(len(children) + len(protections)))
    for child in children:
        parts = _by_key(child, protections) if child.tag == _tag("AdaptationSet") else [child]
        for part in parts:
            if part.tag == _tag("AdaptationSet"):
                part.set("id", str(next(numbers)))
            period.append(part)
        if len(parts) > 1:
            _switching(parts)
    for each in period.iter(_tag("Representation")):
        if each.get("id") in bandwidths:
            each.set("bandwidth", str(bandwidths[each.attrib["id"]]))
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _by_key(adaptation: ET.Element, protections: Mapping[str, Protection]) -> list[ET.Element]:
    """Divide an adaptation set by the keys of its representations, and state the keys."""
    ids = [each.attrib["id"] for each in adaptation.iterfind(_tag("Representation"))]
    keys = dict.fromkeys(protections[one].key_id for one in ids if one in protections)
    parts = []
    for key_id in keys:
        part = copy.deepcopy(adaptation)
        kept = []
        for each in part.findall(_tag("Representation")):
            if protections[each.attrib["id"]].key_id == key_id:
                kept.append(each)
            else:
                part.remove(each)
        if len(keys) > 1:
            part.set("maxWidth", str(max(int(each.attrib["width"]) for each in kept)))
            part.set("maxHeight", str(max(int(each.attrib["height"]) for each in kept)))
        for element in reversed(_content_protection(protections[kept[0].attrib["id"]])):
            part.insert(0, element)
        parts.append(part)
    return parts or [adaptation]


def _content_protection(protection: Protection) -> list[ET.Element]:
    named = protection.key_id.hex()
    parts = [named[:8], named[8:12], named[12:16], named[16:20], named[20:]]
    general = ET.Element(
        _tag("ContentProtection"),
        {
            "schemeIdUri": "urn:mpeg:dash:mp4protection:2011",
            "value": SCHEME,
            f"{{{CENC}}}default_KID": "-".join(parts),
        },
    )
    common = ET.Element(_tag("ContentProtection"), {"schemeIdUri": _COMMON_SYSTEM})
    text = base64.b64encode(protection.pssh).decode()
    ET.SubElement(common, f"{{{CENC}}}pssh").text = text
    return [general, common]


def _switching(parts: Sequence[ET.Element]) -> None:
    """State that players may switch between adaptation sets."""
    for part in parts:
        others = ",".join(other.attrib["id"] for other in parts if other is not part)
        stated = ET.Element(
            _tag("SupplementalProperty"), {"schemeIdUri": _SWITCHING, "value": others}
        )
        before = ("ContentProtection", "EssentialProperty")
        part.insert(sum(each.tag in map(_tag, before) for each in part), stated)


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
