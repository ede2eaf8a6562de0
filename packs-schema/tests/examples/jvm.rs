//! Tests of `jvm` on the installed Java, without its JDK tools, and on recorded logs of collectors.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, directory, have, python};
use crate::servers::Server;

/// Program that keeps objects of a class, holds a lock that others wait for, and uses the processor in one thread.
const PROGRAM: &str = r#"
import java.util.*;
public class Work {
    static class Kept { long[] numbers = new long[1000]; }
    static List<Kept> kept = new ArrayList<>();
    static final Object LOCK = new Object();
    static void park() { try { Thread.sleep(1000000); } catch (InterruptedException e) { } }
    public static void main(String[] words) throws Exception {
        for (int i = 0; i < 1000; i++) kept.add(new Kept());
        Thread holder = new Thread(() -> { synchronized (LOCK) { park(); } }, "holder");
        holder.setDaemon(true);
        holder.start();
        while (holder.getState() != Thread.State.TIMED_WAITING) Thread.onSpinWait();
        for (int i = 0; i < 3; i++) {
            Thread waiter = new Thread(() -> { synchronized (LOCK) { park(); } }, "waiter");
            waiter.setDaemon(true);
            waiter.start();
            while (waiter.getState() != Thread.State.BLOCKED) Thread.onSpinWait();
        }
        Thread busy = new Thread(() -> { for (long n = 0; ; n++) ; }, "busy\033[2J");
        busy.setDaemon(true);
        busy.start();
        System.gc();
        System.out.println("ready");
        while (System.in.read() >= 0) ;
    }
}
"#;

/// Java process of the test, in a directory with its log and its dumps.
struct Java {
    server: Server,
    top: TempDir,
}

impl Java {
    fn start(test: &str, options: &[&str]) -> Option<Java> {
        if !have(test, "java") || !have(test, "javac") {
            return None;
        }
        let top = TempDir::new().unwrap();
        std::fs::write(top.path().join("Work.java"), PROGRAM).unwrap();
        let mut command = Command::new("java");
        command.current_dir(top.path()).args(["-Xmx64m", "-Dpassword=sesame"]).args(options).arg("Work.java");
        Some(Java { server: Server::start(command).says("ready").reads_input(), top })
    }

    fn run(&self, name: &str, more: Value) -> Run {
        let mut parameters = json!({"pid": self.server.pid()});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let site = json!({"dump_directory": self.top.path(), "free_percent": 0});
        action(&format!("jvm.{name}"), parameters).config(site)
    }

    fn started(&self) -> u64 {
        let ended = action("jvm.list", json!({})).go().well();
        let rows = ended.result["processes"].as_array().unwrap();
        let row = rows.iter().find(|r| r["pid"] == self.server.pid()).unwrap_or_else(|| panic!("{rows:?}"));
        assert!(row["main"] == "Work.java" && row["options"][0] == "-Xmx64m", "{row}");
        assert!(!ended.result.to_string().contains("sesame"), "options with values of the application are not shown");
        row["started"].as_u64().unwrap()
    }

    /// Returns the dumps in its directory.
    fn dumps(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.top.path()).unwrap().map(|e| e.unwrap().path());
        entries.filter(|p| p.extension().is_some_and(|e| e == "hprof")).collect()
    }
}

#[test]
fn threads_that_block_others_or_use_the_processor_are_named() {
    let Some(java) = Java::start("threads_that_block_others_or_use_the_processor_are_named", &[]) else { return };
    java.run("thread_dump", json!({"started": 1})).go().error(2, "is another one now");
    let ended = java.run("thread_dump", json!({"seconds": 0.5, "top": 100})).go().well();
    let lock = &ended.result["locks"][0];
    assert_eq!(
        (&lock["waiting"], &lock["owner"], &lock["class"]),
        (&json!(3), &json!("holder"), &json!("java.lang.Object"))
    );
    assert_eq!((&ended.result["states"]["BLOCKED"], &ended.result["deadlock"]), (&json!(3), &json!(false)));
    let busiest = ended.result["busiest"].as_array().unwrap();
    assert!(busiest.iter().any(|t| t["name"] == "busy\\x1b[2J" && t["stack"][0].as_str().unwrap().contains("lambda")));
    let stacks = ended.result["stacks"].as_array().unwrap();
    assert!(
        stacks.iter().any(|s| s["threads"] == 3 && s["state"] == "BLOCKED" && s["example"] == "waiter"),
        "{stacks:?}"
    );
    let ended = java.run("thread_dump", json!({"seconds": 0, "full": true})).go().well();
    assert!(ended.result["busiest"] == json!([]) && ended.stdout.contains("\"holder\" #"), "{}", ended.stdout);
}

#[test]
fn the_heap_is_measured_by_class() {
    let Some(java) = Java::start("the_heap_is_measured_by_class", &["-XX:+UseSerialGC"]) else { return };
    for live in [false, true] {
        let ended = java.run("heap_summary", json!({"live": live, "top": 200})).go().well();
        let number = |key: &str| ended.result[key].as_i64().unwrap();
        assert_eq!((&ended.result["collector"], number("max_bytes")), (&json!("Serial"), 64 << 20));
        assert!(
            number("used_bytes") > 8_000_000 && number("used_bytes") <= number("committed_bytes"),
            "{}",
            ended.result
        );
        let classes = ended.result["classes"].as_array().unwrap();
        let kept = classes.iter().find(|c| c["class"] == "Work$Kept").unwrap();
        assert_eq!(kept["objects"], 1000);
    }
}

#[test]
fn the_log_of_the_collector_is_found_and_summarized() {
    let options = ["-XX:+UseParallelGC", "-Xlog:gc*,safepoint:file=gc.log:time,uptime"];
    let Some(java) = Java::start("the_log_of_the_collector_is_found_and_summarized", &options) else { return };
    let ended = java.run("gc_log_summary", json!({})).go().well();
    assert!(ended.result["full_collections"].as_u64().unwrap() >= 1, "{}", ended.result);
    assert!(ended.result["heap_after_last_bytes"].as_u64().unwrap() > 8_000_000, "{}", ended.result);
    // Written into its working directory: what follows is of the forms that other collectors and versions write.
    let log = "[1.000s][info][gc] GC(0) Pause Young (Normal) (G1 Evacuation Pause) 24M->3M(256M) 3.000ms\n\
        [2.000s][info][gc,phases] GC(1) Pause Mark Start 0.500ms\n\
        2026-11-29T10:00:00.123+0000: 11.000: [Full GC (Ergonomics) [PSYoungGen: 1K->0K(9K)] [ParOldGen: 5K->4K(9K)] \
        6144K->4096K(20480K), [Metaspace: 3K->3K(9K)], 0.0965 secs] [Times: user=0.1 sys=0.0, real=0.1 secs]\n";
    std::fs::write(java.top.path().join("gc.log"), log).unwrap();
    let ended = java.run("gc_log_summary", json!({})).go().well();
    assert_eq!((&ended.result["pauses"], &ended.result["paused_ms"]), (&json!(3), &json!(100.0)));
    assert_eq!((&ended.result["span_seconds"], &ended.result["paused_percent"]), (&json!(10.0), &json!(1.0)));
    assert_eq!(ended.result["kinds"][0]["kind"], "Full GC (Ergonomics)");
    assert_eq!(ended.result["heap_bytes"], 20480 << 10);
}

#[test]
fn the_rotated_log_of_java_8_is_found() {
    let top = TempDir::new().unwrap();
    let log = top.path().join("gc.log");
    std::fs::write(top.path().join("libjvm.so"), "library").unwrap();
    // Has loaded the library of a JVM, and its options; nothing else of it is asked.
    let program = "import mmap, sys\nlibrary = open('libjvm.so')\nkept = mmap.mmap(library.fileno(), 0, prot=mmap.PROT_READ)\n\
        print('ready', flush=True)\nsys.stdin.read()";
    let mut command = Command::new(python());
    command.current_dir(top.path()).args(["-c", program, &format!("-Xloggc:{}", log.display())]);
    let server = Server::start(command).says("ready").reads_input();
    let summary = || action("jvm.gc_log_summary", json!({"pid": server.pid()})).go();
    summary().error(3, "gc.log cannot be read");
    // As Cassandra 3.11 lets it be written: the sizes of a pause follow its ages; what is printed of a concurrent phase has none.
    let lines = |seconds: &str| {
        format!(
            "2026-11-29T10:00:00.123+0000: 1.000: [GC (Allocation Failure) 1.000: [ParNew\nDesired survivor size 5 bytes, new threshold 1 (max 1)\n\
             - age   1:       2048 bytes,       2048 total\n\
             : 6144K->1024K(9216K), 0.0100 secs] 8192K->3072K(20480K), {seconds} secs] [Times: user=0.1 sys=0.0, real=0.1 secs]\n\
             2026-11-29T10:00:05.123+0000: 6.000: [GC (CMS Initial Mark) [1 CMS-initial-mark: 1K(2K)] 3K(4K), 0.0010 secs]\n\
             2026-11-29T10:00:06.123+0000: 7.000: [CMS-concurrent-mark: 0.1/0.1 secs]\n\
             2026-11-29T10:00:10.123+0000: 11.000: [GC (Allocation Failure) 6144K->4096K(20480K), {seconds} secs]\n"
        )
    };
    let write = |name: &str, text: String, seconds: u64| {
        let path = top.path().join(name);
        std::fs::write(&path, text).unwrap();
        let moment = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::open(&path).unwrap().set_modified(moment).unwrap();
    };
    write("gc.log.0", lines("9.0"), 1_700_000_000);
    write("gc.log.1.current", lines("0.0200"), 1_700_000_600);
    write("gc.log.old.gz", lines("8.0"), 1_700_000_900);
    write("gc.logs", lines("8.0"), 1_700_000_900);
    let ended = summary().well();
    assert_eq!(ended.result["log"], json!(log.with_extension("log.1.current")));
    assert_eq!((&ended.result["pauses"], &ended.result["paused_ms"]), (&json!(2), &json!(40.0)));
    assert_eq!(
        (&ended.result["span_seconds"], &ended.result["heap_after_first_bytes"]),
        (&json!(10.0), &json!(3072 << 10))
    );
    assert_eq!(ended.result["kinds"][0]["kind"], "GC (Allocation Failure)");
}

#[test]
fn a_heap_dump_is_written_only_where_there_is_space() {
    let Some(java) = Java::start("a_heap_dump_is_written_only_where_there_is_space", &[]) else { return };
    let dump = || java.run("heap_dump", json!({"started": java.started()}));
    let full = json!({"dump_directory": java.top.path(), "free_percent": 90});
    let free = std::process::Command::new("df").args(["--output=pcent", "/tmp"]).output().unwrap();
    let used: u64 = String::from_utf8(free.stdout)
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap();
    if used > 10 {
        let ended = dump().config(full).go().refused(1, "90% must stay free");
        assert_eq!(ended.result["outcome"], "no_space");
    }
    assert_eq!(dump().noop().go().well().result["outcome"], "would_write");
    assert!(java.dumps().is_empty(), "neither wrote anything");
    let ended = dump().go().well();
    let [file] = &java.dumps()[..] else { panic!("{:?}", java.dumps()) };
    assert_eq!(ended.result["file"], json!(file));
    let meta = std::fs::metadata(file).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, json!(meta.len())), (0o600, ended.result["bytes"].clone()));
    let kept = json!({"dump_directory": java.top.path(), "free_percent": 0, "dumps_kept": 1});
    dump().config(kept).go().error(2, "remove them first");
    let elsewhere = json!({"dump_directory": java.top.path().join("none")});
    dump().config(elsewhere).go().error(3, "cannot be used");
}

#[test]
fn what_java_8_calls_locked_is_not_held_by_a_thread_that_waits() {
    let dump = "\"waiter\" #9 prio=5 os_prio=0 tid=0x1 nid=0x2 in Object.wait() [0x1]\n   java.lang.Thread.State: WAITING (on object monitor)\n\
        \tat java.lang.Object.wait(Native Method)\n\t- waiting on <0x01> (a java.lang.Object)\n\
        \tat A.b(A.java:1)\n\t- locked <0x01> (a java.lang.Object)\n\t- locked <0x02> (a java.lang.Object)\n\n\
        \"holder\" #10 prio=5 os_prio=0 tid=0x1 nid=0x3 runnable [0x1]\n   java.lang.Thread.State: RUNNABLE\n\
        \tat A.c(A.java:1)\n\t- locked <0x01> (a java.lang.Object)\n\n";
    let program = "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\nfrom lib import processes, threads\n\
        print([(t['name'], t['holds']) for t in threads.parse(sys.argv[2].encode())])\n\
        words = 'java --add-opens java.base/java.lang=ALL-UNNAMED -Xmx1g --add-reads=a=b -jar app.jar --port 1'\n\
        print(processes.parse(words.split()))\n";
    let mut command = Command::new(python());
    let output = command.args(["-c", program]).arg(directory("jvm").join("actions")).arg(dump).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "[('waiter', ['0x02']), ('holder', ['0x01'])]\n('app.jar', ['-Xmx1g'])\n";
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_dump_of_thousands_of_threads_fits_in_memory() {
    let program = "import resource, sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\nfrom lib import threads\n\
        resource.setrlimit(resource.RLIMIT_AS, (96 << 20, 96 << 20))\n\
        frames = b''.join(b'\\tat com.example.package.Class%d.method(Class%d.java:%d)\\n' % (i, i, i) for i in range(100))\n\
        head = b'\"pool\" #1 prio=5 os_prio=0 tid=0x1 nid=0x2 waiting [0x1]\\n   java.lang.Thread.State: WAITING (parking)\\n'\n\
        print(sum(len(t['frames']) for t in threads.parse((head + frames + b'\\n') * 6000)))\n";
    let mut command = Command::new(python());
    let output = command.args(["-c", program]).arg(directory("jvm").join("actions")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "600000\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_process_that_a_signal_would_end_gets_none() {
    action("jvm.thread_dump", json!({"pid": std::process::id()})).go().error(2, "is not a Java process");
    let test = "a_process_that_a_signal_would_end_gets_none";
    // With -Xrs, SIGQUIT ends the process; it listens from its start.
    let Some(java) = Java::start(test, &["-Xrs"]) else { return };
    java.run("thread_dump", json!({"seconds": 0})).go().well();
    let Some(java) = Java::start(test, &["-Xrs", "-XX:+DisableAttachMechanism"]) else { return };
    java.run("thread_dump", json!({})).go().error(3, "does not catch SIGQUIT");
    assert!(java.started() > 0, "it still runs");
}
