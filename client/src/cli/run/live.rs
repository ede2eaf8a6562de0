//! The live view of a run on a terminal.
//!
//! ```text
//!  Event ──▶ Board: counts by place ──fold──▶ lines of text for this size ──▶ terminal, at most ten times a second
//! ```
//!
//! [`board`] and [`lines`] are pure. The view takes the lines above the cursor and nothing else of the terminal: no other
//! screen, no hidden cursor, no mode that an interrupt or a panic would have to restore.

mod board;
mod fold;
mod lines;
mod rate;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use console::{Term, measure_text_width, style};

use crate::fleet::{Earlier, Event, Outcome, Run};

use board::Board;
use lines::{Line, Size, Tone, lines};

/// Shortest time between two drawings.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Smallest terminal on which the view is drawn.
const LEAST: Size = Size { rows: 4, columns: 20 };

/// View of a run, drawn on standard error.
pub(super) struct Live<'a> {
    board: Board<'a>,
    began: Instant,
    term: Term,
    colored: bool,
    /// Lines on the terminal, above the cursor.
    drawn: Vec<Line>,
}

impl<'a> Live<'a> {
    /// Returns a view, if standard error is a terminal that can move its cursor. `colored`: colours may be used.
    pub(super) fn new(run: &'a Run, earlier: &Earlier, colored: bool) -> Option<Live<'a>> {
        // Drawn in one write, so that it does not flicker.
        let term = Term::buffered_stderr();
        let is_fit = term.is_term() && !console::is_dumb() && term.size_checked().is_some();
        let live = || Live { board: Board::new(run, earlier), began: Instant::now(), term, colored, drawn: Vec::new() };
        is_fit.then(live)
    }

    /// Applies an event. `outcome` is that of the target that has ended.
    pub(super) fn event(&mut self, event: &Event, outcome: Outcome) {
        self.board.event(event, outcome, self.began.elapsed());
    }

    /// Draws the present state in place of the last one. A terminal that cannot be written to is left alone.
    pub(super) fn draw(&mut self) {
        let (rows, columns) = self.term.size();
        let size = Size { rows: rows.into(), columns: columns.into() };
        let lines = match size.rows < LEAST.rows || size.columns < LEAST.columns {
            true => Vec::new(),
            false => lines(&self.board, self.began.elapsed(), size),
        };
        if lines != self.drawn {
            let _ = self.replace(lines, size.columns);
        }
    }

    /// Removes the view; the next [`Live::draw`] draws it again.
    pub(super) fn clear(&mut self) {
        if !self.drawn.is_empty() {
            let columns = self.term.size().1.into();
            let _ = self.replace(Vec::new(), columns);
        }
    }

    fn replace(&mut self, lines: Vec<Line>, columns: usize) -> std::io::Result<()> {
        // Where the terminal has become narrower, it has wrapped the lines.
        let rows = |line: &Line| measure_text_width(&line.text).div_ceil(columns.max(1)).max(1);
        let above: usize = self.drawn.iter().map(rows).sum();
        if above > 0 {
            self.term.move_cursor_up(above)?;
            self.term.write_str("\r")?;
            self.term.clear_to_end_of_screen()?;
        }
        for line in &lines {
            self.term.write_line(&self.painted(line))?;
        }
        self.drawn = lines;
        self.term.flush()
    }

    fn painted(&self, line: &Line) -> String {
        let painted = style(line.text.as_str()).for_stderr().force_styling(self.colored);
        match line.tone {
            Tone::Plain => line.text.clone(),
            Tone::Head => painted.bold().to_string(),
            Tone::Problem => painted.red().to_string(),
        }
    }
}
