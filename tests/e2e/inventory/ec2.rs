//! Instances of EC2: against moto's server, through the proxy that injects faults, and against many pages.

use bolt_tests::bucket::ACCESS_KEY;
use bolt_tests::proxy::Fault;
use bolt_tests::{Ec2Pages, Moto, Proxy, skip};

use super::Desk;

const ROLE: &str = "arn:aws:iam::222222222222:role/bolt";
const WEST: &str = "[[inventory]]\nkind = \"ec2\"\nregions = [\"eu-west-1\"]\n";

fn desk(tables: &str, endpoint: &str) -> Desk {
    Desk::new(tables).set("AWS_ENDPOINT_URL", endpoint)
}

/// Starts moto's server and a proxy before it; says that the test is skipped where it is not installed.
fn moto(test: &str) -> Option<(Moto, Proxy)> {
    let Some(moto) = Moto::start() else {
        skip(&format!("inventory::ec2::{test}"), "BOLT_MOTO_SERVER names no moto_server");
        return None;
    };
    let proxy = Proxy::before(moto.address());
    Some((moto, proxy))
}

#[test]
fn instances_of_regions_and_accounts_are_listed_with_their_facts() {
    let Some((moto, _proxy)) = moto("instances_of_regions_and_accounts_are_listed_with_their_facts") else { return };
    let (west, east) = ("eu-west-1", "us-east-1");
    let web = moto.run_instance(ACCESS_KEY, west, &[("app", "web"), ("cluster", "web-main"), ("Name", "web 1")]);
    let db = moto.run_instance(ACCESS_KEY, west, &[("app", "db"), ("fleet", "blue")]);
    let far = moto.run_instance(ACCESS_KEY, east, &[("app", "web")]);
    let stopped = moto.run_instance(ACCESS_KEY, west, &[("app", "web")]);
    moto.end_instance(west, "StopInstances", &stopped);
    let gone = moto.run_instance(ACCESS_KEY, west, &[("app", "web")]);
    moto.end_instance(west, "TerminateInstances", &gone);
    let other = moto.run_instance(&moto.key_of_role(ROLE), west, &[("app", "web")]);
    let at = |tables: &str| desk(tables, &moto.endpoint());
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let expect = |tables: &str, ids: &[&String]| {
        let expected = sorted(ids.iter().copied().cloned().collect());
        assert_eq!(sorted(at(tables).ids(&[])), expected, "{tables}");
    };
    let own = "[[inventory]]\nkind = \"ec2\"\nregions = [\"eu-west-1\", \"us-east-1\"]\n";
    let roles = format!("{WEST}roles = [{{ role_arn = \"{ROLE}\", external_id = \"x\" }}]\n");
    expect(own, &[&web, &db, &far]);
    expect(&roles, &[&other]);
    expect(&format!("{own}{roles}"), &[&web, &db, &far, &other]);
    expect(&format!("{own}filters = {{ \"tag:app\" = [\"web\"] }}\n"), &[&web, &far]);
    expect(&format!("{own}filters = {{ \"tag:app\" = \"db\", \"tag-key\" = \"fleet\" }}\n"), &[&db]);
    expect(&format!("{own}states = [\"stopped\"]\naddress = [\"public_ip\", \"private_ip\"]\n"), &[&stopped]);
    let (_, value) = at(&format!("{own}port = 9443\naddress = \"private_dns\"\n")).json(&["instances", "--on", &web]);
    let one = &value["instances"][0];
    let facts = ["region", "app", "cluster"].map(|fact| one["facts"][fact].as_str().unwrap_or_default());
    assert_eq!(facts, [west, "web", "web-main"], "{value}");
    assert!(one["facts"]["zone"].as_str().unwrap().starts_with(west), "{value}");
    let address = one["address"].as_str().unwrap();
    assert!(address.starts_with("ip-10-") && address.ends_with(".eu-west-1.compute.internal:9443"), "{value}");
    // An address that instances do not have is an error that names them, and not fewer instances.
    let said = at(&format!("{WEST}address = \"ipv6\"\n")).run(&["instances", "--partial"]);
    assert!(said.code == 5 && said.stderr.contains("no source gives the address of i-"), "{said:?}");
}

#[test]
fn throttled_and_broken_answers_are_asked_for_again_and_never_fewer_instances() {
    let Some((moto, proxy)) = moto("throttled_and_broken_answers_are_asked_for_again_and_never_fewer_instances") else {
        return;
    };
    let id = moto.run_instance(ACCESS_KEY, "eu-west-1", &[("app", "web")]);
    let desk = desk(WEST, &proxy.endpoint());
    for fault in [
        Fault::Status(503, "RequestLimitExceeded"),
        Fault::Status(400, "Throttling"),
        Fault::Status(500, "InternalError"),
        Fault::Reset,
        Fault::Cut(700),
        Fault::Swap(b"<DescribeInstancesResponse><reservationSet>".to_vec()),
        Fault::Swap(b"<html>log in</html>".to_vec()),
    ] {
        proxy.heal();
        proxy.fail("POST /", 2, fault.clone());
        assert_eq!(desk.ids(&["--refresh"]), [id.as_str()], "{fault:?}");
        assert_eq!(proxy.passed().len(), 3, "{fault:?}");
    }
    proxy.heal();
    proxy.fail("POST /", 1, Fault::Endless);
    let said = desk.run(&["instances", "--refresh"]);
    assert!(said.code == 5 && said.stderr.contains("the answer has more than"), "{said:?}");
    // The number of attempts is bounded.
    proxy.heal();
    proxy.fail("POST /", 1000, Fault::Status(503, "RequestLimitExceeded"));
    let said = desk.run(&["instances", "--refresh"]);
    let message = "ec2 eu-west-1: EC2 answered RequestLimitExceeded: by the proxy (status 503, 6 attempts)";
    assert!(said.code == 5 && said.stderr.contains(message), "{said:?}");
    assert_eq!(proxy.passed().len(), 6);
}

#[test]
fn a_region_or_account_that_refuses_is_an_error_that_names_it() {
    let Some((moto, proxy)) = moto("a_region_or_account_that_refuses_is_an_error_that_names_it") else { return };
    let far = moto.run_instance(ACCESS_KEY, "us-east-1", &[("app", "web")]);
    // Only the requests of the first table pass the proxy.
    let tables = format!("{WEST}name = \"west\"\n[[inventory]]\nkind = \"file\"\npath = \"hosts.toml\"\n");
    let desk = desk(&tables, &proxy.endpoint());
    desk.file("hosts.toml", "[[instances]]\nid = \"i-1\"\naddress = \"h:1\"\n");
    for (code, hint) in
        [("UnauthorizedOperation", "need ec2:DescribeInstances"), ("AuthFailure", "the region is enabled")]
    {
        proxy.heal();
        proxy.fail("POST /", 9, Fault::Status(403, code));
        let said = desk.run(&["instances", "--refresh"]);
        let message = format!("west eu-west-1: EC2 answered {code}: by the proxy (status 403, 1 attempt)");
        assert!(said.code == 5 && said.stderr.contains(&message) && said.stderr.contains(hint), "{said:?}");
        assert_eq!(proxy.passed().len(), 1, "a refusal is not asked again");
        let (exit, value) = desk.json(&["instances", "--refresh", "--partial"]);
        let missing = &value["missing"][0];
        assert!(exit == 0 && missing["source"] == "west eu-west-1", "{value}");
        assert_eq!(value["instances"].as_array().unwrap().len(), 1);
    }
    // The account is named where its role cannot be assumed, and the other account is listed.
    let both = format!(
        "[[inventory]]\nkind = \"ec2\"\nregions = [\"us-east-1\"]\n\
         [[inventory]]\nkind = \"ec2\"\nname = \"other\"\nregions = [\"us-east-1\"]\nroles = [{{ role_arn = \"{ROLE}\" }}]\n"
    );
    let desk =
        Desk::new(&both).set("AWS_ENDPOINT_URL_EC2", &moto.endpoint()).set("AWS_ENDPOINT_URL_STS", &proxy.endpoint());
    proxy.heal();
    proxy.fail("POST /", 9, Fault::Status(403, "AccessDenied"));
    let said = desk.run(&["instances"]);
    let message = "other account 222222222222 role bolt us-east-1: cannot assume the role";
    assert!(said.code == 5 && said.stderr.contains(message) && said.stderr.contains("external_id"), "{said:?}");
    assert_eq!(desk.ids(&["--partial"]), [far]);
}

#[test]
fn wrong_environments_are_named() {
    for (name, value) in [("AWS_ENDPOINT_URL_EC2", "nowhere"), ("AWS_REGION", "EU"), ("HTTPS_PROXY", "ftp://x")] {
        let said = desk(WEST, "http://127.0.0.1:1").set(name, value).run(&["instances"]);
        assert!(said.code == 5 && said.stderr.contains(name), "{said:?}");
    }
    let said = desk(WEST, "http://127.0.0.1:1").set("AWS_ACCESS_KEY_ID", "").set("AWS_SECRET_ACCESS_KEY", "");
    let said = said.set("HOME", "/nonexistent").run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("no AWS credentials were found"), "{said:?}");
    let said = desk(WEST, "http://127.0.0.1:1").run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("no answer from EC2 at http://127.0.0.1:1/"), "{said:?}");
}

#[test]
fn every_page_is_listed_and_a_repeated_one_is_an_error() {
    let pages = Ec2Pages::start(50, 1000, false);
    let tables = format!("{WEST}filters = {{ \"tag:app\" = \"web\" }}\n");
    let all = desk(&tables, &pages.endpoint()).ids(&[]);
    assert_eq!((all.len(), all[0].as_str(), all[49_999].as_str()), (50_000, "i-0-0", "i-49-999"));
    let forms = pages.forms();
    assert_eq!(forms.len(), 50);
    // Filters are pushed to the API, with each page.
    let filters = "Filter.1.Name=instance-state-name&Filter.1.Value.1=pending&Filter.1.Value.2=running\
                   &Filter.2.Name=tag%3Aapp&Filter.2.Value.1=web";
    assert!(forms.iter().all(|form| form.contains(filters) && form.contains("MaxResults=1000")), "{}", forms[0]);
    let circle = Ec2Pages::start(3, 1, true);
    let said = desk(WEST, &circle.endpoint()).run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("the same page again"), "{said:?}");
}
