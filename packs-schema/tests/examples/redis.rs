//! Tests of `redis` on a server of the installed Redis, and on one that answers wrongly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, have};
use crate::servers::{Server, wait_for};

/// Server on a Unix socket, with a password.
struct Redis {
    _server: Server,
    top: TempDir,
}

impl Redis {
    fn start(test: &str) -> Option<Redis> {
        if !have(test, "redis-server") {
            return None;
        }
        let top = TempDir::new().unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--requirepass", "sesame", "--slowlog-log-slower-than", "0"]);
        command.arg("--dir").arg(top.path()).arg("--unixsocket").arg(top.path().join("socket"));
        Some(Redis { _server: Server::start(command).says("ready to accept"), top })
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let run = action(&format!("redis.{name}"), parameters).secrets(json!({"password": "sesame"}));
        run.config(json!({"address": self.top.path().join("socket")}))
    }

    /// Connection that has authenticated.
    fn client(&self) -> BufReader<UnixStream> {
        let mut client = BufReader::new(UnixStream::connect(self.top.path().join("socket")).unwrap());
        assert_eq!(ask(&mut client, "AUTH sesame"), "+OK");
        client
    }
}

/// Sends a command in one line, and returns the first line of the answer.
fn ask(client: &mut BufReader<UnixStream>, command: &str) -> String {
    let mut line = String::new();
    // Of a connection that is closed there is no answer.
    let _ = write!(client.get_mut(), "{command}\r\n").and_then(|()| client.read_line(&mut line));
    line.trim_end().to_owned()
}

/// Server that answers each command, its words joined, with a function of the test; returns its address.
fn stand_in(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Ends with the process of the tests: a thread that waits for a connection holds nothing that others need.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            while let Some(head) = lines.next() {
                let count: usize = head.trim_start_matches('*').parse().unwrap();
                // Each word follows a line with its length.
                let words: Vec<String> = (0..count).filter_map(|_| lines.nth(1)).collect();
                let _ = (&stream).write_all(answer(&words.join(" ")).as_bytes());
            }
        }
    });
    address
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn the_largest_keys_are_found_within_the_limit() {
    let Some(redis) = Redis::start("the_largest_keys_are_found_within_the_limit") else { return };
    let mut client = redis.client();
    for n in 1..=300 {
        ask(&mut client, &format!("SET user:{n} {}", "x".repeat(n)));
    }
    ask(&mut client, &format!("RPUSH \"big\\x1b\" {}", "word ".repeat(2000)));
    ask(&mut client, "EXPIRE user:300 1000");
    let ended = redis.run("big_keys", json!({"top": 2})).go().well();
    assert_eq!((&ended.result["complete"], &ended.result["keys_examined"]), (&json!(true), &json!(301)));
    let keys = &ended.result["keys"];
    assert_eq!(
        (&keys[0]["key"], &keys[0]["type"], &keys[0]["ttl_seconds"]),
        (&json!("big\\x1b"), &json!("list"), &json!(-1))
    );
    let ended = redis.run("big_keys", json!({"pattern": "user:*", "top": 1})).go().well();
    assert_eq!(ended.result["keys_examined"], 300);
    let ended = redis.run("big_keys", json!({"keys": 50})).go().well();
    assert_eq!((&ended.result["complete"], &ended.result["keys_examined"]), (&json!(false), &json!(50)));
}

#[test]
fn arguments_of_slow_commands_are_shown_only_on_request() {
    let Some(redis) = Redis::start("arguments_of_slow_commands_are_shown_only_on_request") else { return };
    let mut client = redis.client();
    ask(&mut client, "SET someone@example.org \"a\\x1bb\"");
    let slow = |more: Value| redis.run("slowlog", more).go().well();
    let ended = slow(json!({}));
    assert!(ended.result["commands"].as_array().unwrap().iter().any(|c| c["command"] == "SET"));
    assert!(!format!("{}{}", ended.result, ended.stdout).contains("someone@example.org"));
    assert!(slow(json!({"arguments": true, "top": 100})).stdout.contains("SET someone@example.org a\\x1bb"));
}

#[test]
fn status_memory_and_latency_are_read() {
    let Some(redis) = Redis::start("status_memory_and_latency_are_read") else { return };
    let mut client = redis.client();
    ask(&mut client, "SET a b");
    ask(&mut client, "GET a");
    ask(&mut client, "GET none");
    let ended = redis.run("status", json!({})).go().well();
    assert_eq!((&ended.result["hit_percent"], &ended.result["keys"]), (&json!(50.0), &json!({"db0": 1})));
    ask(&mut client, "CONFIG SET maxmemory-policy noeviction");
    ask(&mut client, "CONFIG SET maxmemory 1000");
    let ended = redis.run("status", json!({"fail": true})).go().refused(1, "");
    assert!(ended.result["problems"][0].as_str().unwrap().contains("(maxmemory) are in use"), "{}", ended.result);
    assert_eq!(redis.run("memory", json!({})).go().well().result["max_bytes"], 1000);
    let ended = redis.run("latency", json!({"pings": 3})).go().well();
    assert!(ended.result["commands"].as_array().unwrap().iter().any(|c| c["command"] == "get" && c["calls"] == 2));
    let refused = redis.run("status", json!({})).secrets(json!({"password": "open"}));
    refused.go().error(3, "the server refuses the user");
    redis.run("status", json!({})).secrets(json!({})).go().error(3, "refuses PING");
}

#[test]
fn memory_is_purged_only_without_noop() {
    let Some(redis) = Redis::start("memory_is_purged_only_without_noop") else { return };
    let mut client = redis.client();
    let purges = |client: &mut BufReader<UnixStream>| {
        write!(client.get_mut(), "INFO commandstats\r\n").unwrap();
        let mut head = String::new();
        client.read_line(&mut head).unwrap();
        let mut text = vec![0; head.trim_start_matches('$').trim_end().parse::<usize>().unwrap() + 2];
        client.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap().contains("memory|purge:calls=1")
    };
    redis.run("memory_purge", json!({})).noop().go().well();
    assert!(!purges(&mut client));
    redis.run("memory_purge", json!({})).go().well();
    assert!(purges(&mut client));
}

#[test]
fn one_client_is_closed_by_its_id_and_address() {
    let Some(redis) = Redis::start("one_client_is_closed_by_its_id_and_address") else { return };
    let (mut victim, mut other) = (redis.client(), redis.client());
    ask(&mut victim, "CLIENT SETNAME victim");
    let ended = redis.run("clients", json!({})).go().well();
    let rows = ended.result["rows"].as_array().unwrap();
    let row = rows.iter().find(|r| r["name"] == "victim").unwrap();
    let kill = |id: &Value, address: &Value| redis.run("kill_client", json!({"id": id, "address": address}));
    kill(&row["id"], &json!("192.0.2.1:7")).go().error(2, "there is no client");
    assert_eq!(kill(&row["id"], &row["address"]).noop().go().well().result["outcome"], "would_close");
    assert_eq!(ask(&mut victim, "PING"), "+PONG", "a dry run closes nothing");
    assert_eq!(kill(&row["id"], &row["address"]).go().well().result["outcome"], "closed");
    wait_for("the end of the connection", || ask(&mut victim, "PING").is_empty().then_some(()));
    assert_eq!(ask(&mut other, "PING"), "+PONG");
}

#[test]
fn the_status_of_a_redis_that_knows_no_section_everything_is_read() {
    let address = stand_in(|command| match command {
        "PING" => "+PONG\r\n".into(),
        "INFO all" => bulk(
            "# Server\r\nredis_version:5.0.14\r\nrole:master\r\nrdb_last_bgsave_status:ok\r\ndb0:keys=7,expires=0\r\n",
        ),
        "CONFIG GET maxclients" => "*0\r\n".into(),
        // As Redis 4 and 5 answer an unknown section.
        _ => "$0\r\n\r\n".into(),
    });
    let run = |name: &str| action(&format!("redis.{name}"), json!({})).config(json!({"address": address})).go();
    let ended = run("status").well();
    assert_eq!((&ended.result["version"], &ended.result["keys"]), (&json!("5.0.14"), &json!({"db0": 7})));
    assert_eq!(ended.result["problems"], json!([]));
    run("memory").error(1, "answers INFO memory stats with nothing");
    let address = stand_in(|command| if command == "PING" { "+PONG\r\n" } else { "-NOPERM no permission\r\n" }.into());
    let refused = action("redis.status", json!({})).config(json!({"address": address}));
    refused.go().error(1, "refuses INFO: NOPERM");
}

#[test]
fn a_server_that_loads_its_data_has_a_status() {
    let address = stand_in(|command| match command {
        "INFO all" => bulk("redis_version:7.2.4\r\nrole:master\r\nloading:1\r\nrdb_last_bgsave_status:ok\r\n"),
        "CONFIG GET maxclients" => "*0\r\n".into(),
        _ => "-LOADING Redis is loading the dataset in memory\r\n".into(),
    });
    let site = json!({"address": address});
    let ended = action("redis.status", json!({})).config(site.clone()).go().well();
    assert_eq!(ended.result["problems"], json!(["the server is loading its data"]));
    action("redis.memory", json!({})).config(site).go().error(3, "LOADING");
}

#[test]
fn keys_that_are_cut_off_at_the_limit_make_the_search_incomplete() {
    let address = stand_in(|command| match command.split(' ').next().unwrap() {
        "SCAN" => "*2\r\n$1\r\n0\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n".into(),
        "TYPE" => "+string\r\n".into(),
        "MEMORY" | "DBSIZE" => ":3\r\n".into(),
        "TTL" => ":-1\r\n".into(),
        _ => "+PONG\r\n".into(),
    });
    for (keys, complete) in [(2, false), (3, true)] {
        let ended = action("redis.big_keys", json!({"keys": keys})).config(json!({"address": address})).go().well();
        assert_eq!((&ended.result["keys_examined"], &ended.result["complete"]), (&json!(keys), &json!(complete)));
    }
}

#[test]
fn a_client_that_ended_meanwhile_is_not_called_closed() {
    let asked = std::cell::Cell::new(0);
    let address = stand_in(move |command| match command {
        "CLIENT LIST" => {
            asked.set(asked.get() + 1);
            bulk(if asked.get() == 1 { "id=7 addr=192.0.2.1:7 name= age=1 idle=1 flags=N cmd=get\n" } else { "" })
        }
        "CLIENT ID" => ":9\r\n".into(),
        "CLIENT KILL ID 7 ADDR 192.0.2.1:7" => ":0\r\n".into(),
        _ => "+PONG\r\n".into(),
    });
    let kill = action("redis.kill_client", json!({"id": 7, "address": "192.0.2.1:7"}));
    let ended = kill.config(json!({"address": address})).go().well();
    assert_eq!(ended.result["outcome"], "ended_meanwhile");
}

#[test]
fn the_name_of_a_client_is_not_taken_for_its_identity() {
    let address = stand_in(|command| match command {
        "CLIENT LIST" => bulk(
            "id=7 addr=192.0.2.1:7 laddr=192.0.2.2:6379 fd=8 name=a,id=8,addr=192.0.2.1:8,flags=M age=5 idle=1 flags=N qbuf=0 omem=0 cmd=get\n\
             id=8 addr=192.0.2.1:8 laddr=192.0.2.2:6379 fd=9 name= age=5 idle=1 flags=N qbuf=0 omem=0 cmd=get\n",
        ),
        "CLIENT ID" => ":9\r\n".into(),
        "CONFIG GET maxclients" => "*0\r\n".into(),
        _ => "+PONG\r\n".into(),
    });
    let ended = action("redis.clients", json!({})).config(json!({"address": address})).go().well();
    let rows = ended.result["rows"].as_array().unwrap();
    let row = rows.iter().find(|r| r["id"] == 7).unwrap();
    assert_eq!((&row["address"], &row["name"]), (&json!("192.0.2.1:7"), &json!("a,id=8,addr=192.0.2.1:8,flags=M")));
}

#[test]
fn a_server_that_is_not_redis_or_answers_too_much_is_refused() {
    for answer in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$99999999999\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 64];
            assert!(stream.read(&mut question).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let ended = action("redis.status", json!({})).config(json!({"address": address})).go();
        assert_eq!(ended.status, Some(1), "{answer:?}: {}", ended.stderr);
        assert!(ended.result["error"].as_str().is_some(), "{answer:?}");
        peer.join().unwrap();
    }
    action("redis.status", json!({})).config(json!({"address": "127.0.0.1:1"})).go().error(3, "cannot be asked");
}
