//! Bytes of the connection on which a compromised api sends requests to root, in pieces as they happen to arrive.

use packs_schema::agent::launch::{MAX_FRAME, RequestStream};

/// Maximum bytes that the launcher reads at once.
const PIECE: usize = 16 << 10;

pub(super) fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = requests(bytes, PIECE);
    assert_eq!(requests(bytes, usize::from(step) + 1), whole, "requests depend on the pieces in which they arrive");
    assert_eq!(requests(bytes, 1), whole, "requests depend on the pieces in which they arrive");
}

/// Reads all requests of a stream that arrives in pieces; `!` ends it where its next length is invalid.
fn requests(bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut stream, mut seen) = (RequestStream::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        stream.push(piece);
        loop {
            match stream.next_request() {
                Ok(None) => break,
                Ok(Some(Ok(request))) => seen.push(serde_json::to_string(&request).expect("a request serialises")),
                Ok(Some(Err(error))) => seen.push(format!("{error:?}")),
                Err(length) => {
                    assert!(length.0 == 0 || length.0 > MAX_FRAME);
                    seen.push("!".to_owned());
                    return seen;
                }
            }
        }
        assert!(stream.waiting() < 4 + MAX_FRAME, "{} bytes wait", stream.waiting());
        stream.shrink(PIECE);
    }
    seen
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let frame = |json: &[u8]| [&u32::try_from(json.len()).expect("a short request").to_le_bytes(), json].concat();
    let requests: Vec<Vec<u8>> = super::launcher_messages::seeds().iter().map(|json| frame(json)).collect();
    let stream = |step: u8, bytes: &[u8]| [&[step], bytes].concat();
    let mut seeds: Vec<Vec<u8>> = requests.iter().map(|bytes| stream(6, bytes)).collect();
    seeds.push(stream(40, &requests.concat()));
    seeds.push(stream(3, &[&requests[3][..], &[0; 4], &requests[3][..]].concat()));
    seeds.push(stream(0, &[&requests[4][..], &u32::MAX.to_le_bytes()].concat()));
    seeds
}
