//! Pages on a terminal, and the state machine with a live count on every state.
//!
//! Input: a page in Markdown, or counts. Output: text.

use std::fmt::Write;

use crate::aggregate::Counts;
use crate::model::State;
use crate::render::style::{self, Style};
use crate::text::grouped;

/// Appends a page: headings are highlighted, fences are dropped, everything else stays as written.
pub fn write_page(out: &mut String, page: &str, style: Style) {
    let mut code = false;
    for line in page.lines() {
        if line.starts_with("```") {
            code = !code;
            continue;
        }
        // Writing into a String cannot fail.
        let _ = match line.strip_prefix("## ").or_else(|| line.strip_prefix("# ")) {
            Some(heading) if !code => writeln!(out, "{}", style.heading(&heading.to_uppercase())),
            _ if code => writeln!(out, "    {line}"),
            _ => writeln!(out, "{}", line.replace('`', if style.width.is_some() { "" } else { "`" })),
        };
    }
}

/// The picture: a `{name}` is replaced by the state and its count, centred in the width of the placeholder.
const MACHINE: &str = "                            {bound_inactive      }
                              | listen()       \\  connect(): send SYN
               {listen      }<-'                `->{syn_sent     }
                 | receive SYN, send SYN+ACK         |
                 v                                   | receive SYN+ACK, send ACK
               {syn_recv    }                        |
                 | receive ACK                       |
                 `------->  {established        } <--'
                              |              |
   we close first: send FIN   |              |   peer closes first: receive FIN
                 .------------'              '------------.
                 v                                        v
               {fin_wait1   }--receive FIN--.           {close_wait   }
                 | receive ACK              v             | close(): send FIN
                 v                        {closing   }    v
               {fin_wait2   }               |           {last_ack     }
                 | receive FIN              |             | receive ACK
                 v                          |             v
               {time_wait   }<--receive ACK-'           (gone)
                 | 60 s
                 v
               (gone)
";

/// Appends the TCP state machine (RFC 9293, figure 5) with the count of every state.
pub fn write_machine(out: &mut String, counts: &Counts, style: Style) {
    let mut rest = MACHINE;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map_or(rest.len(), |i| open + i);
        out.push_str(&rest[..open]);
        let name = rest[open + 1..close].trim_end();
        let hole = close - open + 1;
        match State::parse(name) {
            Some(state) => {
                let text = format!("{} {}", state.name(), grouped(counts.get(state)));
                let pad = hole.saturating_sub(text.len());
                out.push_str(&style.paint(style::state(state), &text));
                out.push_str(&" ".repeat(pad));
            }
            None => out.push_str(name),
        }
        rest = rest.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    let trimmed: Vec<&str> = out.lines().map(str::trim_end).collect();
    *out = trimmed.join("\n") + "\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_shows_every_state_once_with_its_count_and_fits_80_columns() {
        let mut counts = Counts::default();
        for (i, state) in State::ALL.into_iter().enumerate() {
            counts.add_many(state, 100 + i as u64);
        }
        let mut out = String::new();
        write_machine(&mut out, &counts, Style::PLAIN);
        for (i, state) in State::ALL.into_iter().enumerate() {
            if state != State::Close {
                assert!(out.contains(&format!("{} {}", state.name(), 100 + i)), "{state}\n{out}");
            }
        }
        assert!(!out.contains('{') && out.lines().all(|l| l.len() <= 80), "{out}");
    }

    #[test]
    fn pages_lose_their_fences_and_keep_their_words() {
        let mut out = String::new();
        write_page(
            &mut out,
            "# time-wait\nsome `words`\n```sh\ntcpstate list\n```\n",
            Style { color: false, width: Some(80) },
        );
        assert_eq!(out, "TIME-WAIT\nsome words\n    tcpstate list\n");
    }
}
