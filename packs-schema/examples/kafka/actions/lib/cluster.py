"""Asks the cluster through the tools of Kafka, each of which is a small JVM."""

import os
import pwd
import re

from lib import tool
from lib.bolt_action import FAILED, UNAVAILABLE, Stop, clean, config, read

PARTITION = re.compile(r"^\s*Topic: (\S+)\s+Partition: (\d+)\s+Leader: (\S+)\s+Replicas: ([\d,]*)\s+Isr: ?([\d,]*)")
# broker1.example:9092 (id: 1 rack: null isFenced: false) -> (    of a broker that cannot be reached: -> ERROR: ...
BROKER = re.compile(r"^\S+ \(id: (\d+) rack: (.*)\) -> \(", re.MULTILINE)
# Kinds of trouble, with the option of kafka-topics.sh that lists them.
KINDS = {
    "unavailable": "--unavailable-partitions",
    "under_min_isr": "--under-min-isr-partitions",
    "under_replicated": "--under-replicated-partitions",
    "at_min_isr": "--at-min-isr-partitions",
}  # fmt: skip
MAX_ROWS = 100000
DATA = ["/var/lib/kafka"]
# Within the limits of an action: a heap that suffices for large clusters, and few threads.
JVM = {"KAFKA_HEAP_OPTS": "-Xmx96M", "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1", "LOG_DIR": "/tmp"}


def run(name, arguments, seconds):
    """Returns the output of a tool, as text."""
    site = config()
    path = os.path.join(site.get("bin_directory", "/opt/kafka/bin"), name)
    if not os.path.exists(path):
        raise Stop(UNAVAILABLE, "there is no %s; set bin_directory in /etc/bolt/packs/kafka.yaml" % clean(path))
    words = account(site, path) + [path, "--bootstrap-server", site.get("bootstrap_server", "localhost:9092")]
    if site.get("command_config"):
        words += ["--command-config", site["command_config"]]
    _, out, _ = tool.run(words + arguments, seconds, environment=JVM)
    return out.decode("utf-8", "replace")


def account(site, tool_path):
    """Returns the words with which root runs a tool as the owner of the broker's data, or else of the tool.

    The tools may belong to that account: who can write them, such as a broker that was broken into, must not become root."""
    if os.geteuid() != 0:
        return []
    for path in [os.path.join(directory, "meta.properties") for directory in site.get("data_directories", DATA)] + [tool_path]:
        try:
            owner = os.lstat(path)  # Of a link of that account as well.
        except OSError:
            continue
        return as_owner(owner.st_uid, owner.st_gid) if owner.st_uid != 0 else []
    return []


def as_owner(uid, gid):
    tool.find("setpriv", "the tools of Kafka are not run as root")
    try:
        entry = pwd.getpwuid(uid)
        gid, groups = entry.pw_gid, ["--groups", ",".join(map(str, os.getgrouplist(entry.pw_name, entry.pw_gid)))]
    except KeyError:
        groups = ["--clear-groups"]
    return ["setpriv", "--reuid", str(uid), "--regid", str(gid)] + groups + ["--"]


def partitions(kind, seconds):
    """Returns the partitions with this kind of trouble."""
    found = []
    for line in run("kafka-topics.sh", ["--describe", KINDS[kind]], seconds).splitlines():
        match = PARTITION.match(line)
        if not match and re.match(r"^\s*Topic:.*\bPartition:", line):
            # A restart depends on these lines: none of them may be overlooked.
            raise Stop(FAILED, "kafka-topics.sh describes a partition in an unknown form: %s" % clean(line.strip(), 300))
        if match and len(found) < MAX_ROWS:
            topic, number, leader, replicas, isr = match.groups()
            found.append({
                "topic": clean(topic, 249),
                "partition": int(number),
                "leader": int(leader) if leader.isdigit() else -1,
                "replicas": numbers(replicas),
                "isr": numbers(isr),
            })  # fmt: skip
    return found


def brokers(seconds):
    """Returns the ids of the brokers that answer, without those that are fenced."""
    found = BROKER.findall(run("kafka-broker-api-versions.sh", [], seconds))
    return sorted({int(number) for number, more in found if "isFenced: true" not in more})


def numbers(text):
    return [int(word) for word in text.split(",") if word]


def broker_id():
    """Returns the id of this broker, from meta.properties in its data directories."""
    for directory in config().get("data_directories", DATA):
        text = read(os.path.join(directory, "meta.properties"), 4096) or b""
        match = re.search(rb"^(?:broker|node)\.id\s*=\s*(\d+)\s*$", text, re.MULTILINE)
        if match:
            return int(match.group(1))
    raise Stop(UNAVAILABLE, "no meta.properties in data_directories names the id of this broker; see /etc/bolt/packs/kafka.yaml")
