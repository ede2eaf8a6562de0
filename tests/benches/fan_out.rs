//! Cost of a run over a fleet; see [`bolt_tests::fan_out`]:
//!
//! ```text
//! cargo bench -p bolt-tests --bench fan_out                     everything
//! cargo bench -p bolt-tests --bench fan_out -- 100 1000         these sizes of the simulated fleet, and no agents
//! cargo bench -p bolt-tests --bench fan_out -- agents 50        real agents only, and ssh to as many hosts
//! ```

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    assert!(bolt_tests::fan_out::run(&words), "give sizes, or agents and their number");
}
