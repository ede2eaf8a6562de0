//! Tests of `aws` on a stand-in for the metadata service and the EC2 API.

use std::process::Command;

use serde_json::{Value, json};

use crate::driver::{Run, action, can_be_alone, directory, have, python};
use crate::python::altered;
use crate::service::{programs, script};
use crate::stand_in::{Request, StandIn};

/// Values of the metadata service below `/latest/`.
fn metadata(path: &str) -> Option<&'static str> {
    Some(match path {
        "meta-data/instance-id" => "i-0123456789abcdef0",
        "meta-data/instance-type" => "m7g.large",
        "meta-data/placement/region" => "eu-west-1",
        "meta-data/security-groups" => "web\nde\u{1b}fault",
        "meta-data/network/interfaces/macs/" => "02:00:00:00:00:01/\n../evil/",
        "meta-data/network/interfaces/macs/02:00:00:00:00:01/interface-id" => "eni-1",
        "meta-data/network/interfaces/macs/02:00:00:00:00:01/local-ipv4s" => "10.0.0.7",
        "meta-data/tags/instance/" => "Name\nteam name",
        "meta-data/tags/instance/Name" => "web-1",
        "meta-data/tags/instance/team%20name" => "payments",
        "dynamic/instance-identity/document" => r#"{"accountId":"111122223333","pendingTime":"2026-11-01T00:00:00Z"}"#,
        "meta-data/iam/info" => r#"{"InstanceProfileArn":"arn:aws:iam::111122223333:instance-profile/web"}"#,
        "meta-data/iam/security-credentials/" => "web",
        "meta-data/iam/security-credentials/web" => {
            r#"{"Code":"Success","AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"hidden","Token":"session"}"#
        }
        _ => return None,
    })
}

/// Stand-in that gives values only with the token that it gave out, and EC2 answers only to a signed question.
struct Cloud {
    stand_in: StandIn,
    address: String,
}

impl Cloud {
    fn new(more: fn(&str) -> Option<String>) -> Cloud {
        let (stand_in, address) = StandIn::tcp(move |request: &Request| {
            let (method, target) = request.line.split_once(' ').unwrap();
            if (method, target) == ("PUT", "/latest/api/token") {
                return (200, b"token-of-the-test".to_vec());
            }
            if target.starts_with("/?") {
                return api(request, target);
            }
            if request.header("x-aws-ec2-metadata-token") != Some("token-of-the-test") {
                return (401, Vec::new());
            }
            let path = target.strip_prefix("/latest/").unwrap();
            match more(path).or_else(|| metadata(path).map(str::to_owned)) {
                Some(text) => (200, text.into_bytes()),
                None => (404, Vec::new()),
            }
        });
        Cloud { stand_in, address }
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let site = json!({"metadata_endpoint": self.address, "ec2_endpoint": self.address});
        action(&format!("aws.{name}"), parameters).config(site)
    }
}

/// Answers of the EC2 API, shortened.
fn api(request: &Request, target: &str) -> (u16, Vec<u8>) {
    let signed = request.header("authorization").unwrap_or_default();
    let wanted = "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=";
    if !signed.contains("/eu-west-1/ec2/aws4_request") || !signed.contains(wanted) {
        let text = "<Response><Errors><Error><Code>AuthFailure</Code><Message>no</Message></Error></Errors></Response>";
        return (401, text.into());
    }
    let ns = "xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"";
    let text = if target.contains("Action=DescribeVolumeStatus") {
        format!(
            "<DescribeVolumeStatusResponse {ns}><volumeStatusSet><item><volumeId>vol-0aaaaaaaaaaaaaaaa</volumeId>\
             <volumeStatus><status>impaired</status><details><item><name>io-enabled</name><status>failed</status></item></details>\
             </volumeStatus><eventsSet/></item></volumeStatusSet></DescribeVolumeStatusResponse>"
        )
    } else {
        assert!(target.contains("Filter.1.Value.1=i-0123456789abcdef0"), "{target}");
        let volume = |id: &str| {
            format!(
                "<item><volumeId>{id}</volumeId><size>8</size><status>in-use</status><volumeType>gp3</volumeType>\
                 <iops>3000</iops><throughput>125</throughput><attachmentSet><item><device>/dev/sdf</device>\
                 <status>attached</status></item></attachmentSet></item>"
            )
        };
        let both = volume("vol-0aaaaaaaaaaaaaaaa") + &volume("vol-0bbbbbbbbbbbbbbbb");
        format!("<DescribeVolumesResponse {ns}><volumeSet>{both}</volumeSet></DescribeVolumesResponse>")
    };
    (200, text.into_bytes())
}

#[test]
fn the_instance_is_described_with_a_token_and_without_credentials() {
    let cloud = Cloud::new(|_| None);
    let ended = cloud.run("instance", json!({})).go().well();
    assert_eq!(
        (&ended.result["instance_id"], &ended.result["account"]),
        (&json!("i-0123456789abcdef0"), &json!("111122223333"))
    );
    assert_eq!(ended.result["security_groups"], json!(["web", "de\\x1bfault"]));
    assert_eq!(ended.result["tags"], json!({"Name": "web-1", "team name": "payments"}));
    assert_eq!(ended.result["interfaces"][0]["addresses"], json!(["10.0.0.7"]));
    assert_eq!(
        ended.result["interfaces"].as_array().unwrap().len(),
        1,
        "a name that is no MAC address is not asked for"
    );
    assert!(cloud.stand_in.requests("GET /latest/meta-data/iam/security-credentials").is_empty());
    let token = cloud.stand_in.requests("PUT");
    assert_eq!(token[0].header("x-aws-ec2-metadata-token-ttl-seconds"), Some("120"));
    let none = json!({"metadata_endpoint": "http://127.0.0.1:1"});
    action("aws.instance", json!({})).config(none).go().error(3, "is this an EC2 instance");
}

#[test]
fn events_that_begin_soon_are_a_problem() {
    assert_eq!(Cloud::new(|_| None).run("scheduled_events", json!({})).go().well().result["soon"], 0);
    let far = Cloud::new(|path| {
        (path == "meta-data/events/maintenance/scheduled").then(|| {
            json!([{"Code": "system-reboot", "State": "active", "Description": "reboot", "EventId": "e-1",
                "NotBefore": "21 Jan 2999 09:00:43 GMT", "NotAfter": "21 Jan 2999 09:17:23 GMT"}])
            .to_string()
        })
    });
    let ended = far.run("scheduled_events", json!({})).go().well();
    assert_eq!(
        (&ended.result["events"][0]["begins"], &ended.result["soon"]),
        (&json!("2999-01-21T09:00:43Z"), &json!(0))
    );
    let near = Cloud::new(|path| match path {
        "meta-data/spot/instance-action" => Some(r#"{"action":"terminate","time":"2020-01-01T00:00:00Z"}"#.into()),
        "meta-data/events/maintenance/history" => {
            Some(r#"[{"Code":"instance-reboot","State":"completed","NotBefore":"1 Jan 2020 00:00:00 GMT"}]"#.into())
        }
        "meta-data/autoscaling/target-lifecycle-state" => Some("Terminated".into()),
        _ => None,
    });
    let ended = near.run("scheduled_events", json!({"history": true})).go().refused(1, "");
    let kinds: Vec<&str> =
        ended.result["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds, &ended.result["soon"]), (vec!["maintenance", "spot", "auto_scaling"], &json!(2)));
}

/// Signature that AWS publishes for its example of a GET request of IAM.
#[test]
fn questions_are_signed_as_aws_documents_it() {
    if !have("questions_are_signed_as_aws_documents_it", "python3") {
        return;
    }
    let program = "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\n\
        from lib import ec2\n\
        headers = {'content-type': 'application/x-www-form-urlencoded; charset=utf-8', 'host': 'iam.amazonaws.com', 'x-amz-date': '20150830T123600Z'}\n\
        print(ec2.authorization('AKIDEXAMPLE', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY', 'us-east-1', 'iam', headers, 'Action=ListUsers&Version=2010-05-08'))";
    let output = Command::new(python()).args(["-c", program]).arg(directory("aws").join("actions")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date, \
        Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\n";
    assert_eq!(text, wanted, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn volumes_of_the_host_and_of_the_api_are_compared() {
    let test = "volumes_of_the_host_and_of_the_api_are_compared";
    if !can_be_alone(test) {
        return;
    }
    let block = tempfile::TempDir::new().unwrap();
    let disk = block.path().join("nvme1n1");
    std::fs::create_dir_all(disk.join("device")).unwrap();
    std::fs::create_dir_all(block.path().join("nvme1n1p1")).unwrap();
    std::fs::write(block.path().join("nvme1n1p1/partition"), "1").unwrap();
    for (file, text) in [
        ("device/serial", "vol0aaaaaaaaaaaaaaaa\n"),
        ("device/model", "Amazon Elastic Block Store  \n"),
        ("size", "2048\n"),
        ("dev", "259:7\n"),
    ] {
        std::fs::write(disk.join(file), text).unwrap();
    }
    let cloud = Cloud::new(|_| None);
    let mount = format!("mount --bind '{}' /sys/class/block", block.path().display());
    let ended = cloud.run("volumes", json!({})).after(&mount).go().well();
    let row = &ended.result["volumes"][0];
    assert_eq!(
        (&row["device"], &row["volume_id"], &row["bytes"]),
        (&json!("/dev/nvme1n1"), &json!("vol-0aaaaaaaaaaaaaaaa"), &json!(1 << 20))
    );
    assert!(cloud.stand_in.requests("").is_empty(), "the API is asked on request only");
    let ended = cloud.run("volumes", json!({"api": true})).after(&mount).go().refused(1, "");
    let row = &ended.result["volumes"][0];
    assert_eq!(
        (&row["state"], &row["type"], &row["iops"], &row["status"]),
        (&json!("in-use"), &json!("gp3"), &json!(3000), &json!("impaired"))
    );
    let problems = ended.result["problems"].as_array().unwrap();
    assert!(problems.contains(&json!("vol-0aaaaaaaaaaaaaaaa is impaired: io-enabled failed")), "{problems:?}");
    assert!(
        problems.contains(&json!("vol-0bbbbbbbbbbbbbbbb is attached, but the host does not see it")),
        "{problems:?}"
    );
    assert!(!format!("{}{}", ended.stdout, ended.result).contains("hidden"));
}

#[test]
fn packets_beyond_the_allowance_are_counted_while_it_looks() {
    let ethtool = "n=$(cat \"$0.n\" 2>/dev/null || echo 0); echo $((n + 1)) >\"$0.n\"\n\
        printf 'NIC statistics:\\n     bw_in_allowance_exceeded: %s\\n     pps_allowance_exceeded: 9\\n     conntrack_allowance_available: 100\\n' $((5 + n))\n";
    let bin = programs(&[("ethtool", ethtool)]);
    let parameters = json!({"seconds": 0, "interfaces": ["ens5"]});
    let ended = action("aws.network_allowances", parameters.clone()).programs(bin.path()).go().refused(1, "");
    let row = &ended.result["interfaces"][0];
    assert_eq!((&row["exceeded"], &row["rising"]), (&json!({"bw_in": 6, "pps": 9}), &json!({"bw_in": 1})));
    assert_eq!(row["connections_available"], 100);
    // Of a node of Kubernetes, in whose list the interface of the instance comes after those of pods.
    let node = altered(
        "import os\nos.listdir = lambda path: ['lo', 'ens5'] + ['eni%02d' % n for n in range(40)]\n\
         exists = os.path.exists\nos.path.exists = lambda path: path.endswith('ens5/device') if path.startswith('/sys/class/net/') else exists(path)",
    );
    script(node.path(), "ethtool", &format!("[[ $2 == ens5 ]] || exit 1\n{ethtool}"));
    let ended = action("aws.network_allowances", json!({"seconds": 0})).programs(node.path()).go().refused(1, "");
    assert_eq!(ended.result["interfaces"][0]["name"], "ens5");
    let plain = programs(&[("ethtool", "printf 'NIC statistics:\\n     rx_packets: 1\\n'\n")]);
    action("aws.network_allowances", parameters).programs(plain.path()).go().error(3, "no interface (ens5)");
}
