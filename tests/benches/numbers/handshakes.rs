//! Processor time of a TLS handshake with certificates on both sides, by how keys are exchanged.

use bolt_tests::fleet::handshakes::{Groups, processor_times};

/// Number of handshakes of each kind.
const COUNT: u32 = 2_000;

/// Prints both sides' time for each combination of client and server.
pub(crate) fn print() {
    let pairs = [
        ("X25519 on both sides", (Groups::Classical, Groups::Classical)),
        ("hybrid offered, X25519 accepted", (Groups::Hybrid, Groups::Classical)),
        ("X25519MLKEM768 on both sides", (Groups::Hybrid, Groups::Hybrid)),
    ];
    println!("\n{:<44} {:>10} {:>10} {:>9}", "a TLS handshake, ms of CPU", "client", "server", "runs");
    let times = processor_times(COUNT, &pairs.map(|(_, pair)| pair));
    for ((name, _), sides) in pairs.iter().zip(times) {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        println!("{name:<44} {:>10.3} {:>10.3} {COUNT:>9}", ms(sides.client), ms(sides.server));
    }
}
