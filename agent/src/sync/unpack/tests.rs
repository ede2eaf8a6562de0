//! The reader that must not end quietly; whole archives are tried by the tests of the sync.

use std::io::Read;

use super::limit::Limited;

#[test]
fn a_stream_at_its_limit_is_read_and_one_beyond_it_fails() {
    let read = |length: usize, limit| {
        let mut out = Vec::new();
        Limited::new(&vec![7_u8; length][..], limit).read_to_end(&mut out).map(|_| out.len())
    };
    assert_eq!(read(1000, 1000).unwrap(), 1000);
    assert!(read(1001, 1000).unwrap_err().to_string().contains("unpacks to more"));
}
