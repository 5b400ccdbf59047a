//! The state machine as a picture: sockets in each state, and sockets per second on each edge.
//!
//! Input: the matrix of a sample and its accounts, or the changes as traced. Output: cells. An edge counts only if
//! it was certainly taken, with one exception: between two samples a socket may go from ESTABLISHED to TIME_WAIT by
//! FIN_WAIT2 or by CLOSING, and the usual way is assumed. A trace has every step.

use ratatui::style::Style;

use super::hits::Target;
use super::pen::Pen;
use super::state::Tab;
use crate::aggregate::Matrix;
use crate::model::State;
use crate::render::watch::rate;
use crate::text::grouped;
use crate::watch::Frame;

/// Its size in cells.
pub(super) const WIDTH: u16 = 80;
pub(super) const HEIGHT: u16 = 20;

/// `{state}` is a node, `[edge]` the rate of an edge; each is as wide as written here.
const PICTURE: [&str; HEIGHT as usize] = [
    "                         {bound_inactive        }",
    "            listen()      /          \\   connect(): send SYN   [active    ]",
    " {listen           } <---'            '---> {syn_sent         } -> CLOSE [csyn ]",
    "       |                                            |",
    "       | receive SYN, send SYN+ACK                  | receive SYN+ACK, send ACK",
    "       v                                            |   [connected  ]",
    " {syn_recv           } -> CLOSE [crecv    ]         |",
    "       | receive ACK  [passive   ]                  |",
    "       '---------------->  {established         } <-'",
    "                             |     |     |",
    " we close: send FIN          |     |     |          the peer closes: receive FIN",
    "  [close     ]  .------------'   reset   '------------.  [closed    ]",
    "                v              [resets    ]           v",
    " {fin_wait1           } [both ]-.             {close_wait      } -> CLOSE [cut ]",
    "       | [ack       ]           v                     | close(): send FIN",
    "       v                 {closing           }         v   [lastack   ]",
    " {fin_wait2           }         | [closing   ] {last_ack            }",
    "       v [fin       ]           v                     | receive ACK",
    " {time_wait           } <-------'                     v   [done      ]",
    "       '---> 60 s, then gone    [expired   ]        gone",
];

/// What took each edge, as traced: every step of every socket.
fn traced(name: &str, frame: &Frame, m: &Matrix) -> Option<u64> {
    use State::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent};
    let n = |from: State, to: State| m.get(Some(from), Some(to));
    Some(match name {
        "connected" => n(SynSent, Established),
        "close" => n(Established, FinWait1) + n(SynRecv, FinWait1),
        "ack" => n(FinWait1, FinWait2),
        "fin" => n(FinWait2, Close),
        "closing" => n(Closing, Close),
        "both" => n(FinWait1, Closing),
        // A reset of either end, a timeout, an abort.
        "csyn" => n(SynSent, Close),
        "crecv" => n(SynRecv, Close),
        "cut" => n(CloseWait, Close),
        "closed" => n(Established, CloseWait) + n(SynRecv, CloseWait),
        "lastack" => n(CloseWait, LastAck),
        "done" => n(LastAck, Close),
        // The trace does not show steps that no socket takes.
        _ => return edge(name, frame),
    })
}

/// What took each edge between the two samples.
fn edge(name: &str, frame: &Frame) -> Option<u64> {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent, TimeWait};
    let m = &frame.matrix;
    let sum = |from: &[Option<State>], to: &[State]| -> u64 {
        from.iter().flat_map(|f| to.iter().map(move |t| m.get(*f, Some(*t)))).sum()
    };
    let s = Some;
    let early = [None, s(SynSent), s(SynRecv), s(Established)];
    let ours = [FinWait1, FinWait2, Closing, TimeWait];
    Some(match name {
        "active" => return frame.ledger.active_opens,
        "passive" => return frame.ledger.passive_opens,
        "resets" => return frame.ledger.resets,
        // From SYN_SENT to anything after ESTABLISHED.
        "connected" => sum(&[s(SynSent)], &[Established, FinWait1, FinWait2, Closing, TimeWait, CloseWait, LastAck]),
        "close" => sum(&early, &ours),
        "ack" => sum(&early, &[FinWait2, TimeWait]) + sum(&[s(FinWait1)], &[FinWait2, TimeWait]),
        "fin" => sum(&early, &[TimeWait]) + sum(&[s(FinWait1), s(FinWait2)], &[TimeWait]),
        "closing" => sum(&[s(Closing)], &[TimeWait]),
        "both" => sum(&early, &[Closing]) + sum(&[s(FinWait1)], &[Closing]),
        "closed" => sum(&early, &[CloseWait, LastAck]),
        "lastack" => sum(&early, &[LastAck]) + sum(&[s(CloseWait)], &[LastAck]),
        "done" => gone(m, LastAck),
        "expired" => gone(m, TimeWait),
        _ => return None,
    })
}

fn gone(matrix: &Matrix, state: State) -> u64 {
    matrix.get(Some(state), None)
}

/// Draws the picture; the selected state is reversed. A click on a state selects it in the list of states.
pub(super) fn draw(frame: &Frame, states: &[State], selected: Option<State>, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let all = frame.all();
    let left = pen.area.width.saturating_sub(80) / 2;
    let top = pen.area.height.saturating_sub(20) / 3;
    for (line, y) in PICTURE.iter().zip(top..) {
        let mut x = left;
        let mut rest = *line;
        while let Some(at) = rest.find(['{', '[']) {
            x = pen.text(x, y, &rest[..at], theme.dim());
            let close = if rest[at..].starts_with('{') { '}' } else { ']' };
            let end = rest[at..].find(close).map_or(rest.len(), |i| at + i + 1);
            let name = rest[at + 1..end.saturating_sub(1)].trim_end();
            let hole = u16::try_from(end - at).unwrap_or(0);
            if close == '}' {
                if let Some(state) = State::parse(name) {
                    let asked = frame.shown.contains(state) || all.get(state) > 0;
                    let count = if asked { grouped(all.get(state)) } else { "-".into() };
                    let style = if all.get(state) == 0 { theme.dim() } else { theme.state(state) };
                    let style = if selected == Some(state) { style.patch(theme.selected()) } else { style };
                    let end = pen.text(x, y, &format!("{} {count}", state.name()), style);
                    if let Some(at) = states.iter().position(|s| *s == state) {
                        pen.target((x, y), (end - x, 1), Target::Line(Tab::Machine, at));
                    }
                }
            } else {
                let matrix = frame.trace.as_ref().and_then(|t| t.matrix.as_ref());
                let took = matrix.map_or_else(|| edge(name, frame), |m| traced(name, frame, m));
                let text = match (took, frame.elapsed_ms) {
                    (_, None) => String::new(),
                    (None, _) => "?/s".into(),
                    // Counters cover all sockets; the matrix may cover a share.
                    (Some(n), Some(ms)) => {
                        let whole = matches!(name, "active" | "passive" | "resets");
                        let whole = whole || (matrix.is_some() && name != "expired");
                        let scale = if whole { 1 } else { frame.scale };
                        format!("{}/s", rate(Some((n * scale) as f64 * 1000.0 / ms.max(1) as f64)))
                    }
                };
                let idle = took.is_none_or(|n| n == 0);
                pen.text(x, y, &text, if idle { theme.dim() } else { Style::new().patch(theme.heading()) });
            }
            x += hole;
            rest = &rest[end..];
        }
        pen.text(x, y, rest, theme.dim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testkit;

    #[test]
    fn every_state_and_edge_has_its_place_in_80_columns() {
        let frame = testkit::frame();
        let text = PICTURE.join("\n");
        assert!(PICTURE.iter().all(|l| l.len() <= 80), "{:?}", PICTURE.iter().map(|l| l.len()).max());
        for state in State::ALL.into_iter().filter(|s| *s != State::Close) {
            assert_eq!(text.matches(&format!("{{{} ", state.key())).count(), 1, "{state}");
        }
        for (at, _) in text.match_indices('[') {
            let name = text[at + 1..].split(']').next().unwrap().trim_end();
            // What leaves between two samples may have taken several steps: only a trace sees each.
            assert_eq!(edge(name, &frame).is_some(), !["csyn", "crecv", "cut"].contains(&name), "{name}");
            assert!(traced(name, &frame, &Matrix::default()).is_some(), "{name}");
        }
    }

    #[test]
    fn a_life_between_two_looks_took_every_edge_of_the_usual_way() {
        let mut frame = testkit::frame();
        frame.matrix = Matrix::default();
        frame.matrix.add(None, Some(State::TimeWait), 7);
        let took = |name| edge(name, &frame);
        assert_eq!([took("close"), took("ack"), took("fin"), took("closing")], [Some(7), Some(7), Some(7), Some(0)]);
    }
}
