//! The XML of EC2's answers.

use serde::Deserialize;

/// Maximum length of a text in an error, in characters.
const MAX_TEXT: usize = 200;

/// Instance as EC2 describes it. Texts are untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ec2Instance {
    /// Instance id.
    pub id: String,
    /// State, such as `running`.
    pub state: String,
    /// Availability zone.
    pub zone: String,
    /// Private IPv4 address; addresses and names are empty where the instance has none.
    pub private_ip: String,
    /// Public IPv4 address.
    pub public_ip: String,
    /// First IPv6 address.
    pub ipv6: String,
    /// Private DNS name.
    pub private_dns: String,
    /// Public DNS name.
    pub public_dns: String,
    /// Tags, in the order of the answer.
    pub tags: Vec<(String, String)>,
}

/// Page of an answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) instances: Vec<Ec2Instance>,
    /// Token of the next page.
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    reservation_set: Items<Reservation>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Items<T> {
        Items { item: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reservation {
    #[serde(default)]
    instances_set: Items<Described>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    instance_id: String,
    instance_state: State,
    #[serde(default)]
    private_dns_name: String,
    #[serde(default)]
    dns_name: String,
    #[serde(default)]
    private_ip_address: String,
    #[serde(default)]
    ip_address: String,
    #[serde(default)]
    ipv6_address: String,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    network_interface_set: Items<Interface>,
    #[serde(default)]
    tag_set: Items<Tag>,
}

#[derive(Deserialize)]
struct State {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    #[serde(default)]
    availability_zone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    #[serde(default)]
    ipv6_addresses_set: Items<Ipv6>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipv6 {
    #[serde(default)]
    ipv6_address: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// Reads a page.
pub(crate) fn page(body: &[u8]) -> Result<Page, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let response: Response = quick_xml::de::from_str(text).map_err(|error| shorten(&error.to_string()))?;
    // The library ends at the end of the root element, and takes a document that breaks off before it for an error.
    let reservations = response.reservation_set.item.into_iter();
    let instances = reservations.flat_map(|reservation| reservation.instances_set.item).map(instance).collect();
    Ok(Page { instances, next: response.next_token.filter(|token| !token.is_empty()) })
}

fn instance(described: Described) -> Ec2Instance {
    let interfaces = described.network_interface_set.item.into_iter();
    let mut addresses = interfaces.flat_map(|interface| interface.ipv6_addresses_set.item);
    let ipv6 = match described.ipv6_address {
        address if address.is_empty() => addresses.next().map(|one| one.ipv6_address).unwrap_or_default(),
        address => address,
    };
    Ec2Instance {
        id: described.instance_id,
        state: described.instance_state.name,
        zone: described.placement.availability_zone,
        private_ip: described.private_ip_address,
        public_ip: described.ip_address,
        ipv6,
        private_dns: described.private_dns_name,
        public_dns: described.dns_name,
        tags: described.tag_set.item.into_iter().map(|tag| (tag.key, tag.value)).collect(),
    }
}

/// Returns code and message of an error.
pub(crate) fn error(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(shorten(rest.split_once("</")?.0))
    };
    let code = element("Code").unwrap_or_else(|| "an error without a code".to_owned());
    (code, element("Message").unwrap_or_default())
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet>
        <item>
            <reservationId>r-1</reservationId><ownerId>123456789012</ownerId><groupSet/>
            <instancesSet>
                <item>
                    <instanceId>i-1</instanceId>
                    <instanceState><code>16</code><name>running</name></instanceState>
                    <privateDnsName>ip-10-0-0-1.ec2.internal</privateDnsName>
                    <dnsName/>
                    <placement><availabilityZone>eu-west-1a</availabilityZone><tenancy>default</tenancy></placement>
                    <privateIpAddress>10.0.0.1</privateIpAddress>
                    <networkInterfaceSet>
                        <item><ipv6AddressesSet/></item>
                        <item><ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address></item></ipv6AddressesSet></item>
                    </networkInterfaceSet>
                    <tagSet>
                        <item><key>app</key><value>a &amp; b &lt;c&gt;</value></item>
                        <item><key>empty</key><value/></item>
                    </tagSet>
                </item>
                <item>
                    <instanceId>i-2</instanceId><instanceState><name>pending</name></instanceState>
                </item>
            </instancesSet>
        </item>
        <item>
            <instancesSet><item><instanceId>i-3</instanceId><instanceState><name>running</name></instanceState></item></instancesSet>
        </item>
    </reservationSet>
    <nextToken>abc</nextToken>
</DescribeInstancesResponse>"#;

    #[test]
    fn an_answer_is_read() {
        let Page { instances, next } = page(ANSWER.as_bytes()).unwrap();
        assert_eq!(next.as_deref(), Some("abc"));
        let first = Ec2Instance {
            id: "i-1".to_owned(),
            state: "running".to_owned(),
            zone: "eu-west-1a".to_owned(),
            private_ip: "10.0.0.1".to_owned(),
            ipv6: "2001:db8::1".to_owned(),
            private_dns: "ip-10-0-0-1.ec2.internal".to_owned(),
            tags: vec![("app".to_owned(), "a & b <c>".to_owned()), ("empty".to_owned(), String::new())],
            ..Ec2Instance::default()
        };
        assert_eq!(instances[0], first);
        assert_eq!(instances.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["i-1", "i-2", "i-3"]);
        let empty = "<DescribeInstancesResponse><reservationSet/><nextToken/></DescribeInstancesResponse>";
        let Page { instances, next } = page(empty.as_bytes()).unwrap();
        assert!(instances.is_empty() && next.is_none());
    }

    #[test]
    fn an_answer_that_breaks_off_anywhere_is_an_error() {
        for end in (0..ANSWER.len()).filter(|end| ANSWER.is_char_boundary(*end)) {
            assert!(page(&ANSWER.as_bytes()[..end]).is_err(), "{end}: {}", &ANSWER[..end]);
        }
    }

    #[test]
    fn other_documents_are_errors() {
        let lol =
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><r><reservationSet>&b;</reservationSet></r>";
        let deep = format!("<r>{}", "<a>".repeat(100_000));
        let wrong = ["", "<html><body>login</body></html>", "{}", "\u{feff}", lol, &deep];
        for text in wrong {
            assert!(page(text.as_bytes()).is_err(), "{}", &text[..text.len().min(100)]);
        }
        assert!(page(b"\xff\xfe").is_err());
        // Without an id or a state an instance cannot be judged.
        for gone in ["<instanceId>i-2</instanceId>", "<instanceState><name>pending</name></instanceState>"] {
            assert!(page(ANSWER.replace(gone, "").as_bytes()).is_err(), "{gone}");
        }
    }

    #[test]
    fn errors_have_code_and_message() {
        let body = "<Response><Errors><Error><Code>AuthFailure</Code><Message>no\u{1b}[2J</Message></Error></Errors></Response>";
        assert_eq!(error(body.as_bytes()), ("AuthFailure".to_owned(), "no [2J".to_owned()));
        assert_eq!(error(b"<html>"), ("an error without a code".to_owned(), String::new()));
    }
}
