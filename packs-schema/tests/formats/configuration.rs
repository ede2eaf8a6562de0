//! Tests of `agent.toml` and `grants.toml`: errors are found and name the key.

use packs_schema::agent::config::Config;
use packs_schema::agent::grants::{Grants, Verb};
use packs_schema::base::name::{ActionRef, Principal};
use packs_schema::pack::action::Class;

const GOOD: &str = r#"
[instance]
id = "i-0abc123"
region = "us-east-1"
[instance.tags]
team = "dba"
[api]
listen = "127.0.0.1:0"
[tls]
certificate = "/etc/bolt/tls/agent.pem"
key = "/etc/bolt/tls/agent.key"
client_ca = "/etc/bolt/tls/callers.pem"
[repository]
url = "file:///srv/bolt"
root = "/etc/bolt/root.json"
channel = "prod"
poll = "2m"
[paths]
state = "/var/lib/bolt"
[execution]
max_running = 8
cgroup = "bolt.slice/actions"
[history]
keep = "180d"
"#;

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let config = Config::parse(GOOD).unwrap();
    assert!(config.execution.require_limits, "the packaged default refuses what cannot be capped");
    assert_eq!(config.paths.packs.to_str(), Some("/opt/bolt/packs"));
    assert_eq!((config.users.api.as_str(), config.users.sync.as_str()), ("bolt", "bolt-sync"));
    assert_eq!(config.api.health_listen, None);
    assert_eq!(config.instance.facts(None).unwrap().get("tags.team"), Some("dba"));
}

#[test]
fn a_total_is_of_the_host_or_a_size() {
    let total = |text: &str| {
        let text = GOOD.replace("max_running = 8", &format!("total = {{{text}}}"));
        Config::parse(&text).unwrap().execution.total
    };
    let default = total("");
    assert_eq!((default.memory.bytes(64 << 30), default.cpu.of(8000), default.pids), (16 << 30, 4000, 2048));
    let given = total("memory = \"2GiB\", cpu = \"100%\", pids = 9");
    assert_eq!((given.memory.bytes(1), given.cpu.of(8000), given.pids), (2 << 30, 8000, 9));
    assert_eq!(total("memory = \"1%\"").memory.bytes(u64::MAX), u64::MAX / 100);
}

/// `(text in the valid file, its replacement, words of the error)`
#[test]
fn each_error_names_its_key() {
    for (good, wrong, says) in [
        ("max_running = 8", "max_runing = 8", "max_runing"),
        ("[history]", "[histroy]", "histroy"),
        ("team = \"dba\"", "team = 7", "team"),
        ("id = \"i-0abc123\"", "", "instance.id is missing"),
        ("id = \"i-0abc123\"", "metadata = false", "instance.id is missing"),
        ("id = \"i-0abc123\"", "metadata = \"imds\"", "metadata"),
        ("id = \"i-0abc123\"", "metadata = true\nfrom_tags.zone = \"Zone\"", "zone"),
        ("id = \"i-0abc123\"", "id = \"../etc\"", "instance id \"../etc\" is not valid"),
        ("listen = \"127.0.0.1:0\"", "listen = \"localhost\"", "listen"),
        (
            "certificate = \"/etc/bolt/tls/agent.pem\"",
            "certificate = \"agent.pem\"",
            "tls.certificate = \"agent.pem\" must be an absolute path",
        ),
        ("key = \"/etc/bolt/tls/agent.key\"", "key = \"tls/agent.key\"", "tls.key"),
        ("client_ca = \"/etc/bolt/tls/callers.pem\"", "client_ca = \"\"", "tls.client_ca"),
        ("client_ca = \"/etc/bolt/tls/callers.pem\"", "", "[tls] names no authority of callers"),
        (
            "client_ca = \"/etc/bolt/tls/callers.pem\"",
            "client_authority = [{file = \"/a.pem\", principals = []}]",
            "\"/a.pem\" has no principals",
        ),
        (
            "client_ca = \"/etc/bolt/tls/callers.pem\"",
            "client_authority = [{file = \"/a.pem\", principals = [\"spiffe://example*\"]}]",
            "put a '/' before the '*'",
        ),
        ("client_ca = \"/etc/bolt/tls/callers.pem\"", "crls = [\"a.crl\"]", "tls.crls"),
        ("root = \"/etc/bolt/root.json\"", "root = \"./root.json\"", "repository.root"),
        ("state = \"/var/lib/bolt\"", "state = \"lib\"", "paths.state"),
        ("state = \"/var/lib/bolt\"", "packs = \"packs\"", "paths.packs"),
        ("state = \"/var/lib/bolt\"", "runtime = \"run\"", "paths.runtime"),
        ("state = \"/var/lib/bolt\"", "grants = \"grants.toml\"", "paths.grants"),
        ("state = \"/var/lib/bolt\"", "pack_config = \"packs\"", "paths.pack_config"),
        ("max_running = 8", "max_running = 0", "execution.max_running must be at least 1"),
        ("max_running = 8", "max_queued = 0", "execution.max_queued must be at least 1"),
        ("max_running = 8", "max_running = -1", "max_running"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nmax_connections = 0",
            "api.max_connections must be at least 1",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nhang_after = \"4s\"",
            "api.hang_after = 4s must be between 5s and 1d; 0 turns it off",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nhang_after = \"1d1s\"",
            "api.hang_after = 1d1s must be between 5s and 1d; 0 turns it off",
        ),
        ("poll = \"2m\"", "max_pack = 0", "repository.max_pack must be at least 1"),
        ("poll = \"2m\"", "poll = \"0s\"", "repository.poll must be longer than 0s"),
        ("poll = \"2m\"", "poll = \"often\"", "\"often\" is not a duration"),
        ("poll = \"2m\"", "poll = \"99999d\"", "\"99999d\" is not a duration"),
        ("keep = \"180d\"", "keep = 0", "history.keep must be longer than 0s"),
        ("keep = \"180d\"", "[python]\ntimeout = 0", "python.timeout must be longer than 0s"),
        (
            "keep = \"180d\"",
            "[python]\ninterpreter = \"python3\"",
            "python.interpreter = \"python3\" must be an absolute path",
        ),
        ("keep = \"180d\"", "[python]\nwheels = \"wheels\"", "python.wheels"),
        ("keep = \"180d\"", "[python]\npip_config = \"pip.conf\"", "python.pip_config"),
        ("keep = \"180d\"", "[python]\nindex = \"index.example\"", "python.index must be a URL"),
        ("keep = \"180d\"", "[python]\nindex = \"https://me:canary@index.example/simple\"", "without a password"),
        ("keep = \"180d\"", "[python]\nindexes = []", "indexes"),
        ("channel = \"prod\"", "channel = \"Prod\"", "channel name \"Prod\" is not valid"),
        (
            "file:///srv/bolt",
            "https://example.org/repository",
            "repository.url = \"https://example.org/repository\" is not supported",
        ),
        ("file:///srv/bolt", "file://srv/bolt", "repository.url"),
        ("file:///srv/bolt", "s3://Bucket/prefix", "repository.url = \"s3://Bucket/prefix\" is invalid"),
        ("poll = \"2m\"", "region = \"eu-west-1\"", "repository.region applies to a repository in a bucket"),
        ("poll = \"2m\"", "timeout = \"0s\"", "repository.timeout must be longer than 0s"),
        ("cgroup = \"bolt.slice/actions\"", "cgroup = \"../system.slice\"", "execution.cgroup"),
        ("cgroup = \"bolt.slice/actions\"", "cgroup = \"/system.slice\"", "execution.cgroup"),
        ("cgroup = \"bolt.slice/actions\"", "default_run_as = \"no body\"", "user name \"no body\" is not valid"),
        ("cgroup = \"bolt.slice/actions\"", "default_run_as = \"4294967295\"", "user name"),
        ("max_running = 8", "max_running = 8\nmax_running = 9", "max_running"),
        ("max_running = 8", "total = {memory = \"0%\"}", "from 1% to 100%"),
        ("max_running = 8", "total = {memory = \"1MiB\"}", "execution.total.memory must be at least 16MiB"),
        ("max_running = 8", "total = {cpu = \"101%\"}", "\"101%\" is not a percentage of the host"),
        ("max_running = 8", "total = {cpu = \"+5%\"}", "\"+5%\" is not a percentage of the host"),
        ("max_running = 8", "total = {pids = 0}", "execution.total.pids must be at least 1"),
        ("max_running = 8", "total = {processes = 5}", "processes"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nmemory = \"1MiB\"",
            "api.memory must be at least 16MiB",
        ),
        ("listen = \"127.0.0.1:0\"", "listen = \":8443\"", "\":8443\" is not an IP address with a port: write it like"),
        ("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1\"", "like 127.0.0.1:8443, 0.0.0.0:8443 or [::]:8443"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nhealth_listen = \"localhost:80\"",
            "\"localhost:80\" is not an IP address with a port",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:8443\"\nhealth_listen = \"127.0.0.1:8443\"",
            "api.health_listen = \"127.0.0.1:8443\" is the address of api.listen = \"127.0.0.1:8443\"",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"0.0.0.0:8443\"\nhealth_listen = \"127.0.0.1:8443\"",
            "give it a port of its own",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:0\"\nmax_connections = 50001",
            "api.max_connections = 50001 must be at most 50000",
        ),
        ("keep = \"180d\"", "[audit]\nfile_bytes = \"99999TiB\"", "audit.file_bytes must be at most 1GiB"),
        ("keep = \"180d\"", "[audit]\nfile_bytes = \"63KiB\"", "audit.file_bytes must be at least 64KiB"),
        ("keep = \"180d\"", "[audit]\nmax_files = 10001", "audit.max_files = 10001 must be at most 10000"),
        (
            "keep = \"180d\"",
            "[audit]\nmax_refusal_files = 10001",
            "audit.max_refusal_files = 10001 must be at most 10000",
        ),
    ] {
        let text = GOOD.replace(good, wrong);
        assert_ne!(text, GOOD, "{good}");
        let said = Config::parse(&text).unwrap_err().to_string();
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn a_repository_may_be_in_a_bucket() {
    let with = |more: &str| {
        let text = GOOD.replace("file:///srv/bolt", "s3://packs/bolt");
        Config::parse(&text.replace("poll = \"2m\"", more)).map(|config| config.repository)
    };
    let amazon = with("region = \"eu-west-1\"\nprofile = \"packs\"").unwrap();
    assert_eq!(amazon.bucket().unwrap().key("x"), "bolt/x");
    with("endpoint = \"https://minio.example:9000\"\npath_style = true").unwrap();
    with("endpoint = \"http://127.0.0.1:9000\"").unwrap();
    with("endpoint = \"http://minio.example:9000\"\nallow_http = true").unwrap();
    let said = with("endpoint = \"http://minio.example:9000\"").unwrap_err().to_string();
    assert!(said.contains("repository.endpoint") && said.contains("allow_http = true"), "{said}");
}

#[test]
fn grants_allow_nothing_beyond_their_patterns() {
    let text = r#"
        [[grant]]
        principal = "spiffe://x/*"
        verbs = ["read"]
        actions = ["*"]
        [[grant]]
        principal = "spiffe://x/dba/ann"
        verbs = ["run", "kill"]
        actions = ["cassandra.*", "linux.disk_*"]
        classes = ["diagnostic", "remediation"]
        [[grant]]
        principal = "spiffe://x/dba/bob"
        verbs = ["sync"]
    "#;
    let grants = Grants::parse(text).unwrap();
    for (who, verb, action, class, allowed) in [
        ("spiffe://x/dba/ann", Verb::Read, "any.thing", Class::Maintenance, true),
        ("spiffe://x/dba/ann", Verb::Run, "cassandra.clear", Class::Remediation, true),
        ("spiffe://x/dba/ann", Verb::Run, "cassandra.clear", Class::Maintenance, false),
        ("spiffe://x/dba/ann", Verb::Run, "linux.disk_usage", Class::Diagnostic, true),
        ("spiffe://x/dba/ann", Verb::Run, "linux.disk", Class::Diagnostic, false),
        ("spiffe://x/dba/ann", Verb::Run, "cassandra-2.clear", Class::Diagnostic, false),
        ("spiffe://x/dba/ann", Verb::Sync, "cassandra.clear", Class::Diagnostic, false),
        ("spiffe://x/dba/anna", Verb::Run, "cassandra.clear", Class::Diagnostic, false),
        ("spiffe://x/dba/bob", Verb::Run, "cassandra.clear", Class::Diagnostic, false),
        ("spiffe://xx/dba", Verb::Read, "any.thing", Class::Diagnostic, false),
        ("https://x/dba", Verb::Read, "any.thing", Class::Diagnostic, false),
    ] {
        let (principal, action) = (Principal::new(who).unwrap(), ActionRef::new(action).unwrap());
        assert_eq!(grants.allows(&principal, verb, &action, class), allowed, "{who} {verb} {action}");
    }
    let bob = Principal::new("spiffe://x/dba/bob").unwrap();
    assert!(grants.allows_any(&bob, Verb::Sync) && !grants.allows_any(&bob, Verb::Run));
    let (ann, clear) = (Principal::new("spiffe://x/dba/ann").unwrap(), ActionRef::new("cassandra.clear").unwrap());
    assert!(grants.allows_unclassed(&ann, Verb::Read, &clear));
    assert!(!grants.allows_unclassed(&ann, Verb::Kill, &clear), "a grant for classes says nothing of what has none");
}
