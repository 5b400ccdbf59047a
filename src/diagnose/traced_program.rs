//! Programs that a trace saw: how a headline names them, and whom a finding is about.
//!
//! Input: a program as it was traced, which may be gone. Output: a name, a subject. Not here: what it did.

use crate::diagnose::finding::Subject;
use crate::diagnose::view::View;
use crate::model::traced::Program;
use crate::model::{Endpoint, NetnsId};
use crate::text;

/// `curl (812)`, `'curl' (4 processes)`.
#[must_use]
pub fn name(program: &Program) -> String {
    match program.processes {
        0 | 1 => text::named(&program.comm, program.pid).to_string(),
        more => format!("{} ({more} processes)", text::quoted(&program.comm)),
    }
}

/// The program and the destination it called; the destination alone when the program is not known.
#[must_use]
pub fn caller(view: &View<'_>, netns: Option<NetnsId>, to: Endpoint, program: Option<&Program>) -> Subject {
    let place = Subject { netns, destination: Some(to), ..Subject::default() };
    let Some(program) = program else { return place };
    match view.named(program.pid) {
        Some(process) => Subject { destination: Some(to), ..view.subject_of(process, netns) },
        None => Subject { pid: Some(program.pid), comm: Some(program.comm.clone()), ..place },
    }
}
