"""Asks the EC2 API with the credentials of the instance's role, signed with Signature Version 4.

Only Describe calls. The role needs ec2:DescribeVolumes and ec2:DescribeVolumeStatus. Credentials are never printed.
"""

import datetime
import hashlib
import hmac
import re
import urllib.parse
import xml.etree.ElementTree

from lib import web
from lib.bolt_action import FAILED, UNAVAILABLE, Stop, clean, config

VERSION = "2016-11-15"


class Ec2:
    """The EC2 API of the instance's region."""

    def __init__(self, metadata):
        self._region = metadata.text("meta-data/placement/region")
        if not re.match(r"^[a-z0-9-]{1,40}$", self._region):
            raise Stop(FAILED, "the metadata service names no region")
        roles = metadata.lines("meta-data/iam/security-credentials/", 1)
        if not roles:
            raise Stop(UNAVAILABLE, "the instance has no role (instance profile), so its volumes cannot be asked about; use api=false")
        self._keys = metadata.json("meta-data/iam/security-credentials/" + urllib.parse.quote(roles[0], safe="")) or {}
        if not all(isinstance(self._keys.get(key), str) for key in ("AccessKeyId", "SecretAccessKey", "Token")):
            raise Stop(FAILED, "the metadata service gives no credentials for the role %s: %s" % (clean(roles[0]), clean(str(self._keys.get("Code", "")))))
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        self._endpoint = config().get("ec2_endpoint") or "https://ec2.%s.%s" % (self._region, suffix)

    def ask(self, action, parameters):
        """Returns the root element of the answer, without namespaces."""
        query = dict(parameters, Action=action, Version=VERSION)
        text = "&".join("%s=%s" % (quote(key), quote(value)) for key, value in sorted(query.items()))
        host = self._endpoint.split("://", 1)[1]
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": host, "x-amz-date": moment, "x-amz-security-token": self._keys["Token"]}
        headers["Authorization"] = authorization(self._keys["AccessKeyId"], self._keys["SecretAccessKey"], self._region, "ec2", headers, text)
        answer = web.ask(self._endpoint, "/?" + text, headers=headers, seconds=15.0)
        if b"<!DOCTYPE" in answer.body or not answer.complete:
            raise Stop(FAILED, "the EC2 API gives no answer that can be read")
        try:
            root = xml.etree.ElementTree.fromstring(answer.body)
        except xml.etree.ElementTree.ParseError as error:
            raise Stop(FAILED, "the EC2 API gives no XML (HTTP status %d): %s" % (answer.status, error))
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        if answer.status != 200:
            code, message = root.findtext(".//Code") or "", root.findtext(".//Message") or ""
            raise Stop(FAILED, "the EC2 API refuses %s: %s %s" % (action, clean(code), clean(message, 300)))
        return root


def quote(text):
    return urllib.parse.quote(str(text), safe="-_.~")


def authorization(key, secret, region, service, headers, query):
    """Returns the header Authorization of a GET of `/` with this query, without a body; signs all `headers`."""
    moment = headers["x-amz-date"]
    names = ";".join(sorted(headers))
    lines = "".join("%s:%s\n" % (name, headers[name].strip()) for name in sorted(headers))
    request = "\n".join(("GET", "/", query, lines, names, hashlib.sha256(b"").hexdigest()))
    scope = "%s/%s/%s/aws4_request" % (moment[:8], region, service)
    text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode("utf-8")).hexdigest()))
    digest = ("AWS4" + secret).encode("utf-8")
    for part in (moment[:8], region, service, "aws4_request"):
        digest = hmac.new(digest, part.encode("utf-8"), hashlib.sha256).digest()
    signature = hmac.new(digest, text.encode("utf-8"), hashlib.sha256).hexdigest()
    return "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (key, scope, names, signature)
