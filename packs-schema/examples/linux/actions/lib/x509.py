"""Parses validity and names of an X.509 certificate (RFC 5280).

A DER parser that trusts no length: every value must lie inside its parent. It does not verify signatures. Independent of
openssl, so that results are the same on every host.
"""

import base64
import binascii
import calendar
import re
import time

# Base64 has no hyphens: a block without an end is left where the next one begins, not looked for through the whole file.
PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([^-]*)-----END (?:X509 |TRUSTED )?CERTIFICATE-----")
COMMON_NAME = bytes((0x55, 0x04, 0x03))
ALTERNATIVE_NAMES = bytes((0x55, 0x1D, 0x11))
SEQUENCE, SET, INTEGER, OID, OCTETS, BOOLEAN = 0x30, 0x31, 0x02, 0x06, 0x04, 0x01
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
MAX_NAMES = 20


class NotACertificate(ValueError):
    """Error for bytes that are not a certificate; the text is the reason."""


def certificates(text):
    """Returns the certificates of a PEM or DER file as DER; an item may be a NotACertificate."""
    blocks = PEM.findall(text)
    if not blocks:
        return [text] if text[:1] == b"\x30" else []
    found = []
    for block in blocks:
        try:
            found.append(base64.b64decode(b"".join(block.split()), validate=True))
        except binascii.Error as error:
            found.append(NotACertificate("bad base64: %s" % error))
    return found


def parse(der):
    """Returns serial, subject, issuer, names, and the validity as Unix times."""
    certificate, _ = expect(der, 0, len(der), SEQUENCE)
    body, _ = expect(der, certificate[0], certificate[1], SEQUENCE)
    at, end = body
    tag, _, after = element(der, at, end)
    if tag == 0xA0:  # version
        at = after
    serial, at = expect(der, at, end, INTEGER)
    _, at = expect(der, at, end, SEQUENCE)  # signature algorithm
    issuer, at = expect(der, at, end, SEQUENCE)
    validity, at = expect(der, at, end, SEQUENCE)
    subject, at = expect(der, at, end, SEQUENCE)
    not_before, after = moment(der, *validity)
    not_after, _ = moment(der, after, validity[1])
    _, at = expect(der, at, end, SEQUENCE)  # public key
    return {
        "serial": der[serial[0] : serial[1]].hex()[:64],
        "subject": common_name(der, *subject),
        "issuer": common_name(der, *issuer),
        "names": alternative_names(der, at, end),
        "not_before": not_before,
        "not_after": not_after,
    }


def element(der, at, end):
    """Returns tag, extent of the content and end of the element at `at`, which must end before `end`."""
    if at + 2 > end:
        raise NotACertificate("it ends too early")
    tag, length = der[at], der[at + 1]
    if tag & 0x1F == 0x1F:
        raise NotACertificate("it has a tag of several bytes")
    at += 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or at + size > end:
            raise NotACertificate("it has a length that is not DER")
        length = int.from_bytes(der[at : at + size], "big")
        at += size
    if at + length > end:
        raise NotACertificate("it has a length beyond its end")
    return tag, (at, at + length), at + length


def expect(der, at, end, wanted):
    tag, extent, after = element(der, at, end)
    if tag != wanted:
        raise NotACertificate("it has tag 0x%02x instead of 0x%02x" % (tag, wanted))
    return extent, after


def moment(der, at, end):
    """Parses UTCTime YYMMDDHHMMSSZ (until 2049) or GeneralizedTime YYYYMMDDHHMMSSZ (RFC 5280, 4.1.2.5)."""
    tag, (start, stop), after = element(der, at, end)
    text = der[start:stop]
    if tag == UTC_TIME and re.match(rb"^[0-9]{12}Z$", text):
        text = (b"19" if text[:2] >= b"50" else b"20") + text
    elif tag != GENERALIZED_TIME or not re.match(rb"^[0-9]{14}Z$", text):
        raise NotACertificate("its validity is not a time")
    try:
        # timegm supports times before 1970 and after 2038.
        return calendar.timegm(time.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ")), after
    except (ValueError, OverflowError):
        raise NotACertificate("its validity is not a time")


def common_name(der, at, end):
    """Returns the last common name of a distinguished name, not yet cleaned; empty if there is none."""
    name = ""
    while at < end:
        group, at = expect(der, at, end, SET)
        inner = group[0]
        while inner < group[1]:
            pair, inner = expect(der, inner, group[1], SEQUENCE)
            kind, after = expect(der, pair[0], pair[1], OID)
            if der[kind[0] : kind[1]] == COMMON_NAME:
                tag, value, _ = element(der, after, pair[1])
                name = der[value[0] : value[1]].decode("utf-16-be" if tag == 0x1E else "utf-8", "replace")
    return name


def alternative_names(der, at, end):
    """Returns DNS names, addresses and URIs of the subject alternative names, at most MAX_NAMES, not yet cleaned."""
    while at < end:
        tag, extent, at = element(der, at, end)
        if tag != 0xA3:
            continue
        listed, _ = expect(der, extent[0], extent[1], SEQUENCE)
        inner = listed[0]
        while inner < listed[1]:
            extension, inner = expect(der, inner, listed[1], SEQUENCE)
            kind, after = expect(der, extension[0], extension[1], OID)
            if der[kind[0] : kind[1]] != ALTERNATIVE_NAMES:
                continue
            tag, value, after = element(der, after, extension[1])
            if tag == BOOLEAN:
                tag, value, after = element(der, after, extension[1])
            if tag == OCTETS:
                return general_names(der, *value)
    return []


def general_names(der, at, end):
    names, (at, end) = [], expect(der, at, end, SEQUENCE)[0]
    while at < end and len(names) < MAX_NAMES:
        tag, (start, stop), at = element(der, at, end)
        if tag in (0x82, 0x86):  # dNSName, uniformResourceIdentifier
            names.append(der[start:stop].decode("ascii", "replace"))
        elif tag == 0x87 and stop - start == 4:  # iPAddress
            names.append(".".join(str(byte) for byte in der[start:stop]))
    return names
