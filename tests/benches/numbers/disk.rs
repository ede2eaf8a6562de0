//! Cost of syncing a commit: 16 KiB written again into a log, as SQLite does after a checkpoint.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Number of writes of each kind.
const WRITES: usize = 400;
/// Bytes of one commit.
const COMMIT: usize = 16 << 10;
/// Number of commits in the log before it is written from its beginning again.
const LOG: usize = 64;

/// Way to sync a file.
type Sync = fn(&File) -> io::Result<()>;

/// Prints fsync and fdatasync, in turns, on the file system of `directory`.
pub(crate) fn print(directory: &Path) {
    let kinds: [(&str, Sync); 2] =
        [("a commit of 16 KiB, fsync", File::sync_all), ("a commit of 16 KiB, fdatasync", File::sync_data)];
    let logs = ["all", "data"].map(|name| {
        let log = File::create(directory.join(name)).expect("a file can be made");
        log.write_all_at(&vec![1; LOG * COMMIT], 0).and_then(|()| log.sync_all()).expect("it can be written");
        log
    });
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..WRITES {
        for ((log, (_, sync)), times) in logs.iter().zip(&kinds).zip(&mut times) {
            log.write_all_at(&[2; COMMIT], (turn % LOG * COMMIT) as u64).expect("it can be written");
            let since = Instant::now();
            sync(log).expect("it can be synced");
            times.push(since.elapsed());
        }
    }
    for ((name, _), mut times) in kinds.iter().zip(times) {
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{name:<44} {:>10.2} {:>10.2} {WRITES:>9}", ms(times[WRITES / 2]), ms(times[WRITES * 99 / 100]));
    }
}
