//! What a sync process holds at most while it takes a pack of 50 MB, as it says itself when it is done.

use std::fs;
use std::io::Read as _;

use bolt_client::repo::{PublishOptions, publish};
use bolt_tests::{PackSource, World};
use packs_schema::name::ChannelName;

/// Bytes of the pack, which do not compress.
const PACK: u64 = 50 << 20;

/// Prints the peak of a sync with a large pack.
pub(crate) fn print_peak() {
    let world = World::empty();
    let pack = PackSource::new("large", "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
    let directory = pack.write(&world.scratch("sources"));
    let mut noise = Vec::new();
    let random = fs::File::open("/dev/urandom").expect("there is randomness");
    random.take(PACK).read_to_end(&mut noise).expect("it can be read");
    fs::write(directory.join("noise.bin"), noise).expect("the pack can be written");
    let channel = ChannelName::new("prod").expect("a valid name");
    let options = PublishOptions::new(directory, world.site.repository(), world.site.keys(), vec![channel]);
    publish(&options).expect("the pack can be published");
    let agent = world.agent();
    let log = fs::read_to_string(agent.log()).expect("the log can be read");
    let peak = log.lines().find_map(|line| line.split_once("peak_kb=")?.1.split_whitespace().next());
    println!("{:<58} {:>9} kB   (target <= 32768)", "a sync with a pack of 50 MB, at most", peak.unwrap_or("-"));
}
