//! Memory that a process at rest can give back: parses `/proc/self/smaps`.
//!
//! Text and constants of a program count as its memory while they are mapped, though the page cache has them as well. A process
//! that unmaps their pages gets each back, without reading the disk, when it next touches it.

use std::collections::HashSet;
use std::ops::Range;

/// Mapping of a process.
struct Mapping<'a> {
    range: Range<usize>,
    /// Permissions, such as `r-xp`.
    permissions: &'a str,
    /// Device and inode of the file; `None`: of no file.
    file: Option<(&'a str, &'a str)>,
    /// True if no page differs from the file.
    is_clean: bool,
}

/// Bytes of the stack below an address that stay: frames of calls that are made meanwhile, and of signals.
const STACK_MARGIN: usize = 16 << 10;

/// Returns the part of the main thread's stack below `address`, that of a variable of the current call, in whole pages: no call uses it
/// any more. `None` in other threads.
pub fn unused_stack(smaps: &str, address: usize, page_size: usize) -> Option<Range<usize>> {
    let stack = smaps.lines().filter(|line| line.ends_with("[stack]")).find_map(header)?.range;
    let end = address.checked_sub(STACK_MARGIN)?.checked_div(page_size)? * page_size;
    (stack.contains(&address) && stack.start < end).then_some(stack.start..end)
}

/// Returns the address ranges of programs and libraries whose pages are those of their files: mapped private, never writable, and
/// without pages of the process's own, which relocations and breakpoints make.
///
/// Only files that are also mapped as executable: they stay mapped until the process ends, so that a range still means the same
/// when it is used.
pub fn clean_program_ranges(smaps: &str) -> Vec<Range<usize>> {
    let mappings = parse(smaps);
    let programs: HashSet<_> =
        mappings.iter().filter(|mapping| mapping.permissions == "r-xp").filter_map(|mapping| mapping.file).collect();
    let gives = |mapping: &Mapping<'_>| {
        matches!(mapping.permissions, "r-xp" | "r--p")
            && mapping.is_clean
            && mapping.file.is_some_and(|file| programs.contains(&file))
    };
    mappings.into_iter().filter(gives).map(|mapping| mapping.range).collect()
}

fn parse(smaps: &str) -> Vec<Mapping<'_>> {
    let mut mappings: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = header(line) {
            mappings.push(mapping);
        } else if let Some(own) = line.strip_prefix("Anonymous:")
            && let Some(last) = mappings.last_mut()
        {
            last.is_clean = own.trim() == "0 kB";
        }
    }
    mappings
}

/// Parses `55d0c0000000-55d0c0100000 r-xp 00000000 08:01 1234    /usr/bin/program`.
fn header(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let (permissions, _offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let file = (inode != "0").then_some((device, inode));
    // Until the line that says so.
    Some(Mapping { range, permissions, file, is_clean: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(header: &str, anonymous: u32) -> String {
        format!("{header}\nSize:  8 kB\nRss:  8 kB\nAnonymous:  {anonymous} kB\nVmFlags: rd ex mr mw me\n")
    }

    #[test]
    fn text_and_constants_of_programs_are_given_back_and_nothing_else() {
        let smaps = [
            mapping("1000-2000 r--p 00000000 08:01 7    /usr/bin/program", 0),
            mapping("2000-3000 r-xp 00001000 08:01 7    /usr/bin/program", 0),
            mapping("3000-4000 r--p 00002000 08:01 7    /usr/bin/program", 4),
            mapping("4000-5000 rw-p 00003000 08:01 7    /usr/bin/program", 0),
            mapping("5000-6000 rw-p 00000000 00:00 0    [heap]", 4),
            mapping("6000-7000 r--p 00000000 08:01 8    /etc/ld.so.cache", 0),
            mapping("7000-8000 r--s 00000000 08:01 7    /usr/bin/program", 0),
            mapping("8000-9000 r-xp 00000000 08:01 9    /lib/lib with spaces.so (deleted)", 0),
            mapping("9000-a000 r-xp 00000000 08:01 9    /lib/lib with spaces.so (deleted)", 8),
            mapping("a000-b000 r-xp 00000000 00:00 0    [vdso]", 0),
            "b000-c000 r-xp 00000000 08:01 7    /usr/bin/program\n".to_owned(),
        ];
        assert_eq!(clean_program_ranges(&smaps.concat()), [0x1000..0x2000, 0x2000..0x3000, 0x8000..0x9000]);
        assert_eq!(clean_program_ranges("nonsense\nAnonymous: 0 kB\n"), []);
    }

    #[test]
    fn the_stack_is_unused_below_the_current_call_and_a_margin() {
        let smaps = mapping("7ffe1f800000-7ffe1f900000 rw-p 00000000 00:00 0    [stack]", 900);
        assert_eq!(unused_stack(&smaps, 0x7ffe_1f8f_1234, 4096), Some(0x7ffe_1f80_0000..0x7ffe_1f8e_d000));
        assert_eq!(unused_stack(&smaps, 0x7ffe_1f80_4000, 4096), None, "nothing is below the margin");
        assert_eq!(unused_stack(&smaps, 0x7ffe_1fa0_0000, 4096), None, "of another thread");
        assert_eq!(unused_stack("", 0x7ffe_1f8f_1234, 4096), None);
    }
}
