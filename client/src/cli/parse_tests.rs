use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())
}

#[test]
fn the_declarations_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn what_people_write_is_understood() {
    for line in [
        "bolt run linux.disk_usage path=/var --where app=='x' --by zone --max-failures 10% --json",
        "bolt --config c.toml run linux.disk_usage --all --batch 5 --timeout 10s --note why --yes",
        "bolt run cassandra.clear_snapshots --noop --on i-1,i-2 --params-file -",
        "bolt run linux.disk_usage --everywhere --exclude i-1,i-0a* --sample 3 --seed 7 --partial",
        "bolt instances --on - --refresh",
        "bolt ps --state running --action linux.memory --since 1h --limit 5 --run r-1",
        "bolt history --state failed",
        "bolt show 6e1d4cf1b2aa",
        "bolt logs -f 01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa --stream stderr --raw",
        "bolt kill 6e1d4cf1b2aa --note enough --on i-1",
        "bolt kill --run r-1 --caller spiffe://x/ann --yes",
        "bolt ps --running-for 10m --sort duration --reverse --until 2h --wide --principal spiffe://x/ann",
        "bolt history --since yesterday --until 2026-01-02",
        "bolt logs -f --run r-1 --parallel 10",
        "bolt logs r-1",
        "bolt show --run r-1",
        "bolt wait --run r-1 --timeout 10m",
        "bolt wait 6e1d4cf1b2aa",
        "bolt actions linux",
        "bolt instances --check --zone a,b --json",
        "bolt pki init ca --name Example",
        "bolt pki issue --ca ca instance i-1 --address 127.0.0.1 --out certs --days 30",
        "bolt pki issue --ca ca client spiffe://example.org/oncall --out certs",
        "bolt --ca ca.pem --cert me.pem --key me.key instances",
        "bolt repo promote cassandra 2.4.1 --from test --to prod --percent 10 --where app=='x' --repo r --keys k",
        "bolt repo promote cassandra --from test --to prod --repo r --keys k --passphrase-file p --team dba --new-channel",
        "bolt repo rollback cassandra --channel prod --to 1.0.0 --repo r --keys k",
        "bolt repo delegate dba cassandra --public-key dba.pub --threshold 2 --repo r --keys k",
        "bolt repo rotate-root --replace targets --new-keys new --remove-key 0123abcd --repo r --keys k",
        "bolt repo key-passphrase dba/snapshot.pem dba/timestamp.pem --passphrase-file p --new-passphrase-file q",
        "bolt repo refresh --if-within 7d --repo r --keys k --json",
        "bolt repo status --repo r --reached --on i-1 --inventory i.toml",
        "bolt completions bash",
        "bolt man --out pages",
        "bolt man repo promote",
        "bolt config show --json",
        "bolt can-i run cassandra.clear_snapshots --on i-1",
        "bolt can-i push cassandra.* --region eu-west-1",
        "bolt can-i sync",
        "bolt agent check --config agent.toml",
        "bolt pki csr instance i-1 --address 10.0.0.7 --out tls",
        "bolt pki sign i-1.csr --ca ca --name bolt://instance/i-1 --address 10.0.0.7 --days 30",
        "bolt pki renew i-1.pem --ca ca/ca.pem --new-key i-1.key",
        "bolt pki show i-1.pem ca.pem",
        "bolt repo unpublish cassandra 2.4.1 --reason because",
        "bolt repo status",
        "bolt pack diff cassandra prod test --stat",
        "bolt pack diff cassandra 1.0.0 ./cassandra --repo r --root root.json",
    ] {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_read() {
    for (line, part) in [
        ("bolt run disk_usage", "<pack>.<action>"),
        ("bolt run linux.x path", "NAME=VALUE"),
        ("bolt run linux.x --all --by zone", "cannot be used with"),
        ("bolt run linux.x --batch 0", "at least one"),
        ("bolt run linux.x --max-failures 101%", "percentage"),
        ("bolt run linux.x --where ap=='x'", "expected a fact"),
        ("bolt run linux.x --timeout 10", "duration"),
        ("bolt run linux.x --parallel 0", "10000"),
        ("bolt ps --state done", "succeeded"),
        ("bolt history --state running", "is not a state in which"),
        ("bolt show xyz", "UUID"),
        ("bolt show 12345", "six"),
        ("bolt show", "<ID|RUN-ID>"),
        ("bolt wait", "<ID|RUN-ID>"),
        ("bolt logs 6e1d4cf1b2aa --run r-1", "cannot be used with"),
        ("bolt kill 6e1d4cf1b2aa --run r-1", "cannot be used with"),
        ("bolt ps --since tomorrow", "yesterday 14:00"),
        ("bolt ps --since 2126-01-01", "in the future"),
        ("bolt history --until 1970-01-01", "before 2000"),
        ("bolt ps --running-for 5m --state queued", "cannot be used with"),
        ("bolt pki issue instance ../x --out o", "instance id"),
        ("bolt pki issue client oncall --out o", "principal"),
        ("bolt pki csr client bolt://Instance/i-1 --out o", "`instance <ID>`"),
        ("bolt can-i fly", "read, run, kill"),
        ("bolt can-i run cassandra", "<pack>.<action>"),
        ("bolt can-i run cassandra", "write cassandra.*"),
        ("bolt kill r-1", "give it with --run"),
        ("bolt instances --sample 0", "from 1 to 1000000"),
        ("bolt grants check --as spiffe://x/y sync --at 2027", "RFC 3339"),
        ("bolt pack diff cassandra prod Pro_D!", "a version such as"),
        ("bolt pki sign x.csr --address 10.0.0.7", "--name"),
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn the_exit_codes_of_the_help_are_those_of_the_code() {
    for exit in
        [Exit::Success, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Refused, Exit::Storage, Exit::Interrupted]
    {
        assert!(EXIT_CODES.contains(&format!("\n  {:<4} ", exit as i32)), "{exit:?}");
    }
}
