//! `doctor` over the captures of several hosts: one after the other, each by itself.
//!
//! Input: their sessions or stretches. Output: a report by host, or one document whose entries name their host. Not here: what is
//! found.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value as Json, json};

use super::{Asked, Examined, Opened, incidents, write_text};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session;
use crate::model::Gap;
use crate::render::json::{self as out, Head};
use crate::render::{course, sanitize};

/// What was said of all hosts so far.
#[derive(Default)]
struct Said {
    text: String,
    /// Entries by the key of their list.
    lists: BTreeMap<&'static str, Vec<Json>>,
    members: Vec<out::HeadOfHost>,
    /// What is of a host as a whole.
    facts: Vec<Map<String, Json>>,
    sockets: usize,
    gaps: Vec<(String, Vec<Gap>)>,
    notes: Vec<String>,
    head: Option<Head>,
    found: bool,
}

/// Looks at each host.
pub(super) fn run(opened: Opened, asked: &Asked<'_>, env: &mut Env) -> anyhow::Result<Exit> {
    let mut said = Said { notes: opened.notes, ..Said::default() };
    let mut failed = None;
    for sample in opened.hosts {
        match asked.examine(sample) {
            Ok(examined) => said.add(examined, asked, env),
            Err(error) => {
                said.notes.push(format!("{error:#}"));
                failed = Some(error);
            }
        }
    }
    if let (Some(error), None) = (failed, &said.head) {
        return Err(error);
    }
    let common = &asked.args.common;
    if let Some(to) = env.json(common.json) {
        out::write_document(to, &said.document(asked))?;
    }
    if env.wants_text(common.json) {
        env.stdout.write_all(said.text.as_bytes())?;
        let gaps: Vec<(&str, &[Gap])> = said.gaps.iter().map(|(host, gaps)| (host.as_str(), &gaps[..])).collect();
        session::print_gaps_of(&gaps, env, common)?;
    }
    env.stdout.flush()?;
    for note in &said.notes {
        env.note(note)?;
    }
    Ok(match (common.strict && said.gaps.iter().any(|(_, gaps)| !gaps.is_empty()), said.found) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::No,
        (false, false) => Exit::Done,
    })
}

impl Said {
    fn add(&mut self, examined: Examined, asked: &Asked<'_>, env: &Env) {
        let Examined { mut session, mut diagnosis, snapshot, course } = examined;
        let (host, min) = (snapshot.host.clone(), asked.args.min_severity);
        self.found |= matches!(asked.exit(&diagnosis), Exit::No);
        let lists = [
            ("findings", out::findings(&diagnosis, min)),
            ("incidents", incidents(&diagnosis, min, &snapshot, course.as_ref())),
            ("not_checked", out::not_checked(&diagnosis)),
            ("gaps", out::gaps(&session.gaps)),
        ];
        for (key, list) in lists {
            self.lists.entry(key).or_default().extend(out::on_host(list, &host));
        }
        self.members.push(session.head_of_host());
        let mut facts = Map::new();
        facts.insert("sockets".into(), json!(snapshot.sockets.len()));
        facts.insert("interval_ms".into(), json!(session.interval_ms));
        facts.insert("traced".into(), out::traced(snapshot.traced.as_ref()));
        facts.insert("course".into(), json!(course.as_ref().map(course::document)));
        self.facts.push(facts);
        self.sockets += snapshot.sockets.len();
        let style = env.style(asked.args.common.color);
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&format!("{}\n", style.heading(&sanitize::clean(&host))));
        write_text(&mut self.text, asked, &session, &mut diagnosis, (&snapshot, course.as_ref()), env);
        self.head.get_or_insert_with(|| session.head("doctor"));
        self.gaps.push((host, std::mem::take(&mut session.gaps)));
        self.notes.append(&mut session.notes);
    }

    fn document(&mut self, asked: &Asked<'_>) -> Json {
        let Some(head) = self.head.take() else { return Json::Null };
        let mut map = out::head(&session::several_hosts(&head, std::mem::take(&mut self.members)));
        if let Some(Json::Array(hosts)) = map.get_mut("hosts") {
            for (host, facts) in hosts.iter_mut().zip(&self.facts) {
                if let Json::Object(host) = host {
                    host.extend(facts.clone());
                }
            }
        }
        map.insert("rules".into(), json!(asked.rules()));
        map.insert("sockets".into(), json!(self.sockets));
        map.insert("interval_ms".into(), Json::Null);
        map.insert("traced".into(), Json::Null);
        for key in ["findings", "incidents"] {
            map.insert(key.into(), json!(self.lists.get(key)));
        }
        map.insert("course".into(), Json::Null);
        for key in ["not_checked", "gaps"] {
            map.insert(key.into(), json!(self.lists.get(key)));
        }
        Json::Object(map)
    }
}
