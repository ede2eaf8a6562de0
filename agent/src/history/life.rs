//! The life clock: how long this history has lived. Retention goes by it, and never by the wall clock, which may leap.
//!
//! ```text
//!  same boot ────▶ what CLOCK_BOOTTIME says more than at the last look
//!  another boot ─▶ what the wall clock says more than it ever did: at least nothing, at most MAX_GAP
//! ```
//!
//! It is read in the writer thread and saved with the marks: `(life, highest row)`, at most one an hour. What was
//! accepted so long ago that it may go is what lies at or below the mark of that time. So a leap of the wall clock
//! forgets nothing; at worst a host that was off for long keeps its history for longer.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock;

/// The most that one start of the host adds for the time it was off.
const MAX_GAP_MS: u64 = 7 * 86_400_000;
/// Between two marks, at least.
const MARK_EVERY_MS: u64 = 3_600_000;
/// Marks within the time that is kept, at most: with a longer time they are further apart.
const MARKS: u64 = 4_096;

/// What the host's clocks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which boot of the host this is.
    pub boot_id: String,
    /// Milliseconds since it started.
    pub boot_ms: u64,
    /// Milliseconds since 1970, as far as the host knows.
    pub wall_ms: u64,
}

/// Reads the clocks; tests play them.
pub type Clock = Box<dyn Fn() -> Reading + Send>;

/// The clocks of this host.
pub(super) fn host() -> Clock {
    let boot_id = clock::boot_id();
    Box::new(move || Reading { boot_id: boot_id.clone(), boot_ms: clock::boottime_ms(), wall_ms: clock::now_ms() })
}

/// How long the history has lived, as of a reading of the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    life_ms: u64,
    boot_id: String,
    boot_ms: u64,
    /// The latest that the wall clock ever said.
    wall_ms: u64,
}

impl Life {
    /// Goes on from what was saved, or begins.
    pub(super) fn resume(connection: &Connection, now: &Reading) -> rusqlite::Result<Life> {
        let mut statement = connection.prepare("SELECT life_ms, boot_id, boot_ms, wall_ms FROM life")?;
        let saved = statement.query_row([], |row| {
            Ok(Life { life_ms: row.get(0)?, boot_id: row.get(1)?, boot_ms: row.get(2)?, wall_ms: row.get(3)? })
        });
        let mut life = saved.optional()?.unwrap_or(Life {
            life_ms: 0,
            boot_id: now.boot_id.clone(),
            boot_ms: now.boot_ms,
            wall_ms: now.wall_ms,
        });
        life.advance(now);
        Ok(life)
    }

    /// Takes over what the clocks say; answers how long the history has lived.
    pub(super) fn advance(&mut self, now: &Reading) -> u64 {
        let passed = if self.boot_id == now.boot_id {
            now.boot_ms.saturating_sub(self.boot_ms)
        } else {
            now.wall_ms.saturating_sub(self.wall_ms).min(MAX_GAP_MS)
        };
        self.life_ms += passed;
        self.boot_id.clone_from(&now.boot_id);
        self.boot_ms = now.boot_ms;
        self.wall_ms = self.wall_ms.max(now.wall_ms);
        self.life_ms
    }

    /// How long it has lived, as of the last reading.
    pub(super) fn now_ms(&self) -> u64 {
        self.life_ms
    }

    /// Saves it, and where the rows stand now.
    pub(super) fn save(&self, connection: &Connection, keep_ms: u64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO life (one, life_ms, boot_id, boot_ms, wall_ms) VALUES (1, ?1, ?2, ?3, ?4)
                 ON CONFLICT (one) DO UPDATE SET life_ms = ?1, boot_id = ?2, boot_ms = ?3, wall_ms = ?4",
            )?
            .execute(params![self.life_ms, self.boot_id, self.boot_ms, self.wall_ms])?;
        let newest: Option<u64> =
            connection.query_row("SELECT max(life_ms) FROM marks", [], |row| row.get::<_, Option<u64>>(0))?;
        if newest.is_none_or(|at| self.life_ms >= at.saturating_add(MARK_EVERY_MS.max(keep_ms / MARKS))) {
            connection.execute(
                "INSERT INTO marks (life_ms, seq) SELECT ?1, coalesce(max(seq), 0) FROM executions",
                params![self.life_ms],
            )?;
        }
        Ok(())
    }

    /// The highest row that is older than `keep_ms`; marks before that one go.
    pub(super) fn horizon(&self, connection: &Connection, keep_ms: u64) -> rusqlite::Result<Option<i64>> {
        let Some(before) = self.life_ms.checked_sub(keep_ms) else { return Ok(None) };
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
