//! The history's own clock: the age of the file, used for retention instead of the wall clock, which may leap.
//!
//! ```text
//!  same boot ────▶ advances by the difference of CLOCK_BOOTTIME since the last reading
//!  another boot ─▶ advances by how far the wall clock is beyond its highest reading: at least 0, at most a week (MAX_GAP_MS)
//! ```
//!
//! The writer thread reads it and saves marks `(age, highest row)`, at most one an hour. Rows older than a given age are those at
//! or below the mark of that age. A leap of the wall clock therefore removes nothing; at worst a host that was off for
//! longer than a week keeps its history for longer.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock;

/// Maximum advance for the time that the host was off.
const MAX_GAP_MS: u64 = 7 * 86_400_000;
/// Minimum distance of two marks.
const MARK_EVERY_MS: u64 = 3_600_000;
/// Maximum number of marks within the retention time; with a longer time they are further apart.
const MARKS: u64 = 4_096;

/// Reading of the host's clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockReading {
    /// Boot id.
    pub boot_id: String,
    /// Milliseconds since the boot.
    pub boot_ms: u64,
    /// Wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// Function that reads the clocks; tests replace it.
pub type ReadClocks = Box<dyn Fn() -> ClockReading + Send>;

/// Returns a function that reads the clocks of this host.
pub(super) fn host() -> ReadClocks {
    let boot_id = clock::boot_id();
    Box::new(move || ClockReading { boot_id: boot_id.clone(), boot_ms: clock::boottime_ms(), wall_ms: clock::now_ms() })
}

/// Age of the history, as of the last reading of the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryClock {
    age_ms: u64,
    boot_id: String,
    boot_ms: u64,
    /// Highest reading of the wall clock.
    wall_ms: u64,
}

impl HistoryClock {
    /// Continues from the saved state, or starts at 0.
    pub(super) fn resume(connection: &Connection, now: &ClockReading) -> rusqlite::Result<HistoryClock> {
        let mut statement = connection.prepare("SELECT life_ms, boot_id, boot_ms, wall_ms FROM life")?;
        let saved = statement.query_row([], |row| {
            Ok(HistoryClock { age_ms: row.get(0)?, boot_id: row.get(1)?, boot_ms: row.get(2)?, wall_ms: row.get(3)? })
        });
        let mut history_clock = saved.optional()?.unwrap_or(HistoryClock {
            age_ms: 0,
            boot_id: now.boot_id.clone(),
            boot_ms: now.boot_ms,
            wall_ms: now.wall_ms,
        });
        history_clock.advance(now);
        Ok(history_clock)
    }

    /// Advances to a reading of the clocks; returns the age.
    pub(super) fn advance(&mut self, now: &ClockReading) -> u64 {
        let passed = if self.boot_id == now.boot_id {
            now.boot_ms.saturating_sub(self.boot_ms)
        } else {
            now.wall_ms.saturating_sub(self.wall_ms).min(MAX_GAP_MS)
        };
        self.age_ms += passed;
        self.boot_id.clone_from(&now.boot_id);
        self.boot_ms = now.boot_ms;
        self.wall_ms = self.wall_ms.max(now.wall_ms);
        self.age_ms
    }

    /// Age as of the last reading, in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.age_ms
    }

    /// Saves the clock, and a mark if one is due.
    pub(super) fn save(&self, connection: &Connection, keep_ms: u64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO life (one, life_ms, boot_id, boot_ms, wall_ms) VALUES (1, ?1, ?2, ?3, ?4)
                 ON CONFLICT (one) DO UPDATE SET life_ms = ?1, boot_id = ?2, boot_ms = ?3, wall_ms = ?4",
            )?
            .execute(params![self.age_ms, self.boot_id, self.boot_ms, self.wall_ms])?;
        let newest: Option<u64> =
            connection.query_row("SELECT max(life_ms) FROM marks", [], |row| row.get::<_, Option<u64>>(0))?;
        if newest.is_none_or(|at| self.age_ms >= at.saturating_add(MARK_EVERY_MS.max(keep_ms / MARKS))) {
            connection.execute(
                "INSERT INTO marks (life_ms, seq) SELECT ?1, coalesce(max(seq), 0) FROM executions",
                params![self.age_ms],
            )?;
        }
        Ok(())
    }

    /// Returns the highest row older than `keep_ms`, and removes the marks before that one.
    pub(super) fn horizon(&self, connection: &Connection, keep_ms: u64) -> rusqlite::Result<Option<i64>> {
        let Some(before) = self.age_ms.checked_sub(keep_ms) else { return Ok(None) };
        let found: Option<(u64, i64)> = connection
            .query_row(
                "SELECT life_ms, seq FROM marks WHERE life_ms <= ?1 ORDER BY life_ms DESC LIMIT 1",
                params![before],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((at, seq)) = found else { return Ok(None) };
        connection.execute("DELETE FROM marks WHERE life_ms < ?1", params![at])?;
        Ok(Some(seq))
    }
}
