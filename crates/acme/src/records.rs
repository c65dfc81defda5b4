//! Who writes the records of dns-01: a name server that takes updates, or a program of the user's own.

use evenkeel_model::{Challenge, DnsSettings, DnsWriter};
use evenkeel_scripts::Job;

use crate::dns;
use crate::order::Answer;

/// Where the record of an answer stands.
fn place(settings: &DnsSettings, answer: &Answer) -> String {
    match &settings.alias {
        Some(alias) => alias.trim_end_matches('.').to_owned(),
        None => format!("_acme-challenge.{}", answer.name),
    }
}

fn is_record(answer: &&Answer) -> bool {
    answer.challenge == Challenge::Dns.as_str()
}

/// Writes the records of all answers that are some; whether there was one.
pub fn present(settings: &DnsSettings, answers: &[Answer]) -> Result<bool, String> {
    for answer in answers.iter().filter(is_record) {
        change(settings, answer, true)?;
    }
    Ok(answers.iter().any(|answer| is_record(&answer)))
}

/// Takes them away again; what could not be is said.
pub fn clean_up(settings: &DnsSettings, answers: &[Answer]) -> Result<(), String> {
    let results = answers.iter().filter(is_record).map(|answer| change(settings, answer, false));
    results.collect::<Vec<_>>().into_iter().collect()
}

fn change(settings: &DnsSettings, answer: &Answer, add: bool) -> Result<(), String> {
    let name = place(settings, answer);
    match &settings.writer {
        DnsWriter::Update { server, zone, key } => {
            dns::write(*server, zone.as_deref(), key.as_ref(), &name, &answer.text, add)
        }
        DnsWriter::Hook { command, timeout } => {
            let what = if add { "present" } else { "cleanup" };
            let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let job = Job {
                command: command.clone(),
                arguments: vec![what.to_owned(), format!("{name}."), answer.text.clone()],
                environment: vec![
                    variable("CERTBOT_DOMAIN", &answer.name),
                    variable("CERTBOT_VALIDATION", &answer.text),
                    variable("CERTBOT_TOKEN", &answer.token),
                ],
                limit: Some(*timeout),
                ..Job::default()
            };
            let ended = evenkeel_scripts::run_and_wait(&job)?;
            match ended.code {
                Some(0) => Ok(()),
                _ => Err(format!("{} {what} {name}: {}", command.display(), ended.in_words())),
            }
        }
    }
}
