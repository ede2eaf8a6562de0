//! Folds regions and zones into a number of rows: what fails and runs is shown, the rest is summed.

use std::cmp::Reverse;
use std::ops::AddAssign;

/// Number of instances in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    pub(super) unreachable: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.waiting += other.waiting;
        self.running += other.running;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.unreachable += other.unreachable;
    }
}

impl Tally {
    /// Returns the counts in the order of the columns.
    pub(super) fn columns(self) -> [usize; 5] {
        [self.waiting, self.running, self.succeeded, self.failed, self.unreachable]
    }

    pub(super) fn has_problems(self) -> bool {
        self.failed + self.unreachable > 0
    }

    /// Orders by importance: problems first, then what runs, then what is left.
    fn rank(self) -> (usize, usize, usize) {
        (self.failed + self.unreachable, self.running, self.waiting)
    }
}

/// Zone with its counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) tally: Tally,
}

/// Row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) tally: Tally,
    /// True for a zone, whose counts are part of the row of its region.
    pub(super) is_part: bool,
}

struct Region<'a> {
    name: &'a str,
    zones: &'a [Place],
    tally: Tally,
}

/// Returns at most `most` rows, at least 1, for `places`, which are in the order of region and zone.
pub(super) fn fold(places: &[Place], most: usize) -> Vec<Row> {
    let regions: Vec<Region<'_>> = places.chunk_by(|one, other| one.region == other.region).map(region).collect();
    let zones: usize = regions.iter().map(|region| if region.zones.len() > 1 { region.zones.len() } else { 0 }).sum();
    if regions.len() + zones <= most {
        return rows(&regions, &|_, _| true);
    }
    if regions.len() <= most {
        let mut ranked: Vec<(usize, usize)> = Vec::new();
        for (at, region) in regions.iter().enumerate().filter(|(_, region)| region.zones.len() > 1) {
            ranked.extend((0..region.zones.len()).map(|zone| (at, zone)));
        }
        ranked.sort_by_key(|(region, zone)| Reverse(regions[*region].zones[*zone].tally.rank()));
        ranked.truncate(most - regions.len());
        return rows(&regions, &|region, zone| ranked.contains(&(region, zone)));
    }
    let mut ranked: Vec<usize> = (0..regions.len()).collect();
    ranked.sort_by_key(|at| Reverse(regions[*at].tally.rank()));
    let (shown, summed) = ranked.split_at_mut(most.saturating_sub(1));
    shown.sort_unstable();
    let mut folded: Vec<Row> = shown.iter().map(|at| row(&regions[*at], false)).collect();
    let mut rest = Row { name: format!("{} more regions", summed.len()), tally: Tally::default(), is_part: false };
    summed.iter().for_each(|at| rest.tally += regions[*at].tally);
    folded.push(rest);
    folded
}

fn region(zones: &[Place]) -> Region<'_> {
    let mut tally = Tally::default();
    zones.iter().for_each(|zone| tally += zone.tally);
    Region { name: &zones[0].region, zones, tally }
}

/// Returns a row for each region, with those of its zones that are shown.
fn rows(regions: &[Region<'_>], is_shown: &dyn Fn(usize, usize) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, region) in regions.iter().enumerate() {
        let shown: Vec<usize> = match region.zones.len() {
            1 => Vec::new(),
            count => (0..count).filter(|zone| is_shown(at, *zone)).collect(),
        };
        rows.push(row(region, shown.len() == region.zones.len()));
        for zone in shown {
            let zone = &region.zones[zone];
            rows.push(Row { name: format!("  {}", name(&zone.zone, "no zone")), tally: zone.tally, is_part: true });
        }
    }
    rows
}

fn row(region: &Region<'_>, has_all_zones: bool) -> Row {
    let of_region = name(region.name, "no region");
    let name = match region.zones {
        [zone] if zone.zone.is_empty() => of_region.to_owned(),
        // AWS zones repeat their region.
        [zone] if zone.zone.starts_with(&zone.region) => zone.zone.clone(),
        [zone] => format!("{of_region} {}", zone.zone),
        _ if has_all_zones => of_region.to_owned(),
        zones => format!("{of_region} ({} zones)", zones.len()),
    };
    Row { name, tally: region.tally, is_part: false }
}

fn name<'a>(text: &'a str, without: &'a str) -> &'a str {
    if text.is_empty() { without } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(region: usize, zone: usize, failed: usize) -> Place {
        let tally = Tally { waiting: 1, running: 2, succeeded: 3, failed, unreachable: 0 };
        Place { region: format!("r{region}"), zone: format!("r{region}{zone}"), tally }
    }

    fn names(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn zones_that_fail_stay_and_the_others_are_in_their_region() {
        let places = [place(1, 1, 0), place(1, 2, 9), place(1, 3, 0), place(2, 1, 0), place(3, 1, 0), place(3, 2, 1)];
        assert_eq!(names(&fold(&places, 9)), ["r1", "  r11", "  r12", "  r13", "r21", "r3", "  r31", "  r32"]);
        assert_eq!(names(&fold(&places, 5)), ["r1 (3 zones)", "  r12", "r21", "r3 (2 zones)", "  r32"]);
        assert_eq!(names(&fold(&places, 3)), ["r1 (3 zones)", "r21", "r3 (2 zones)"]);
        assert_eq!(names(&fold(&places, 2)), ["r1 (3 zones)", "2 more regions"]);
        assert_eq!(names(&fold(&places, 1)), ["3 more regions"]);
        let bare = Place::default();
        assert_eq!(names(&fold(std::slice::from_ref(&bare), 1)), ["no region"]);
    }

    proptest! {
        #[test]
        fn rows_fit_and_add_up(zones in prop::collection::vec((0..6usize, 0..5usize, 0..9usize), 1..40), most in 1..12usize) {
            let mut places: Vec<Place> = zones.iter().map(|(region, zone, failed)| place(*region, *zone, *failed)).collect();
            places.sort_by(|a, b| (&a.region, &a.zone).cmp(&(&b.region, &b.zone)));
            let (mut wanted, mut sum) = (Tally::default(), Tally::default());
            places.iter().for_each(|place| wanted += place.tally);
            let rows = fold(&places, most);
            rows.iter().filter(|row| !row.is_part).for_each(|row| sum += row.tally);
            prop_assert!(rows.len() <= most, "{rows:?}");
            prop_assert_eq!(sum, wanted);
        }
    }
}
