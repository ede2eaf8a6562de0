//! Tests of `linux` with recorded counters of the network, a host whose resolver is known, and a clock that stays wrong.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, can_be_alone, skip};
use crate::linux::{name_server, row};
use crate::python::{altered, recorded};
use crate::service::programs;

const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

/// Counters of /proc/net/snmp and netstat, cut to some columns.
fn protocols(retransmitted: u32, receive_buffer: u32, overflows: u32) -> [(&'static str, String); 2] {
    let snmp = format!(
        "Ip: Forwarding DefaultTTL InReceives InDiscards\nIp: 1 64 1000 3\n\
         Tcp: RtoAlgorithm MaxConn ActiveOpens RetransSegs InErrs\nTcp: 1 -1 10 {retransmitted} 0\n\
         Udp: InDatagrams NoPorts InErrors RcvbufErrors\nUdp: 100 5 0 {receive_buffer}\n"
    );
    [
        ("snmp", snmp),
        ("netstat", format!("TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 {overflows} 0\n")),
    ]
}

#[test]
fn errors_and_drops_of_interfaces_and_protocols_are_counted() {
    let place = TempDir::new().unwrap();
    for (part, eth0, counters, squeezed) in [
        ("before", "1000 10 7 100 0 2 0 0 500 5 1 0 0 0 0 0", protocols(40, 0, 5), "0a"),
        ("after", "6000 20 7 112 0 2 0 0 900 9 1 4 0 0 3 0", protocols(46, 0, 5), "0c"),
    ] {
        let directory = place.path().join(part);
        fs::create_dir(&directory).unwrap();
        let lo = "9000 90 0 0 0 0 0 0 9000 90 0 0 0 0 0 0";
        fs::write(directory.join("dev"), format!("{DEV}    lo: {lo}\n  eth0:{eth0}\n")).unwrap();
        for (name, text) in counters {
            fs::write(directory.join(name), text).unwrap();
        }
        fs::write(directory.join("softnet_stat"), format!("000000ff 00000001 000000{squeezed} 0 0\n")).unwrap();
    }
    let files = ["/proc/net/dev", "/proc/net/snmp", "/proc/net/netstat", "/proc/net/softnet_stat"];
    let bin = altered(&recorded(place.path(), &files));
    let ended = action("linux.network_errors", json!({"seconds": 1})).programs(bin.path()).go().well();
    let eth0 = row(&ended.result["interfaces"], "name", &json!("eth0"));
    assert_eq!((&eth0["received_bytes"], &eth0["sent_bytes"]), (&json!(5000), &json!(400)));
    assert_eq!(eth0["growth"], json!({"receive_drops": 12, "send_drops": 4, "carrier_errors": 3}));
    let total = json!({"receive_errors": 7, "receive_drops": 112, "receive_frame": 2, "send_errors": 1,
        "send_drops": 4, "carrier_errors": 3});
    assert_eq!(eth0["total"], total);
    let lo = row(&ended.result["interfaces"], "name", &json!("lo"));
    assert_eq!((&lo["growth"], &lo["total"]), (&json!({}), &json!({})));
    assert_eq!(ended.result["growth"], json!({"Tcp.RetransSegs": 6, "softnet.out_of_budget": 2}));
    let total = json!({"Ip.InDiscards": 3, "Tcp.RetransSegs": 46, "TcpExt.ListenOverflows": 5, "softnet.dropped": 1,
        "softnet.out_of_budget": 12});
    assert_eq!((&ended.result["total"], &ended.result["growing"]), (&total, &json!(true)));
}

#[test]
fn the_resolver_of_the_host_counts_for_its_health() {
    let test = "the_resolver_of_the_host_counts_for_its_health";
    if !can_be_alone(test) {
        return;
    }
    if !fs::exists("/etc/nsswitch.conf").unwrap() || !fs::exists("/etc/hosts").unwrap() {
        return skip(test, "this host has no /etc/nsswitch.conf or /etc/hosts in whose place others can be mounted");
    }
    let ask = |hosts: &str, answer: fn(&mut Vec<u8>)| {
        let place = TempDir::new().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("hosts"), hosts).unwrap();
        fs::write(at("nsswitch"), "hosts: files\n").unwrap();
        let instead = format!(
            "mount --bind '{}' /etc/hosts\nmount --bind '{}' /etc/nsswitch.conf",
            at("hosts").display(),
            at("nsswitch").display()
        );
        let server = format!("127.0.0.1#{}", name_server(answer));
        let parameters = json!({"name": "host.example", "servers": [server], "tries": 1, "timeout_ms": 5000});
        action("linux.dns_health", parameters).after(&instead).go()
    };
    let address = |text: &mut Vec<u8>| {
        text[7] = 1;
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    };
    let ended = ask("192.0.2.7 host.example\n", address).well();
    assert_eq!((&ended.result["healthy"], &ended.result["resolver"]["problem"]), (&json!(true), &json!("")));
    assert_eq!(ended.result["resolver"]["addresses"], json!(["192.0.2.7"]));
    let ended = ask("127.0.0.1 localhost\n", address);
    assert_eq!((ended.status, &ended.result["healthy"]), (Some(1), &json!(false)), "{}", ended.stdout);
    assert_ne!(ended.result["resolver"]["problem"], "");
    // A name that does not exist is none of the resolver's problems.
    let ended = ask("127.0.0.1 localhost\n", |text| text[3] = 3).well();
    assert_eq!((&ended.result["healthy"], &ended.result["servers"][0]["code"]), (&json!(true), &json!("NXDOMAIN")));
}

#[test]
fn a_name_server_on_a_link_is_asked_through_its_interface() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("resolv.conf"), "nameserver fe80::1%lo\nnameserver 127.0.0.1\n").unwrap();
    let known = format!(
        "import os\nopened = os.open\n\
         os.open = lambda path, *rest, **more: opened('{}/resolv.conf' if path == '/etc/resolv.conf' else path, *rest, **more)",
        place.path().display()
    );
    let parameters = json!({"name": "host.example", "tries": 1, "timeout_ms": 50});
    let ended = action("linux.dns_health", parameters).programs(altered(&known).path()).go();
    let servers: Vec<&Value> = ended.result["servers"].as_array().unwrap().iter().map(|s| &s["server"]).collect();
    assert_eq!(servers, ["fe80::1%lo", "127.0.0.1"]);
}

#[test]
fn a_clock_that_chrony_does_not_synchronize_is_a_failure() {
    for (offset, leap, outcome) in [
        ("0.000000001", "Not synchronised", "not_synchronized"),
        ("5.0", "Normal", "not_synchronized"),
        ("0.000000001", "Normal", "synchronized"),
    ] {
        let tracking = format!("echo \"A9FEA97B,169.254.169.123,4,$(date +%s).5,{offset},0,0,0,0,0,0,0,64,{leap}\"");
        let chronyc =
            format!("case \"$*\" in\nmakestep) echo '200 OK' ;;\n*tracking) {tracking} ;;\n*) exit 9 ;;\nesac\n");
        let bin = programs(&[("chronyc", &chronyc)]);
        let ended = action("linux.fix_clock", json!({"wait": 1})).programs(bin.path()).go();
        let status = if outcome == "synchronized" { Some(0) } else { Some(1) };
        assert_eq!(
            (ended.status, &ended.result["outcome"]),
            (status, &Value::from(outcome)),
            "{leap}, offset {offset}"
        );
        assert_eq!(ended.stderr.contains("the clock is not synchronized after 1 s"), status == Some(1));
    }
}
