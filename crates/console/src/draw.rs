//! Draws the console: 80 columns and 24 lines suffice, more are used.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Wrap};

use crate::form::{Field, FieldKind, Form};
use crate::state::{Console, HOME, POWER, TESTS, View};

/// Borders of a terminal that knows nothing but ASCII.
const PLAIN: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};
/// A screen that shows no more of them than fit beside the rest.
const ADDRESSES_AT_MOST: usize = 4;

/// `plain`: the terminal shows ASCII alone.
pub fn draw(console: &Console, frame: &mut Frame<'_>, plain: bool) {
    let rows = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(1), Constraint::Length(1)];
    let [head, body, message, keys] = Layout::vertical(rows).areas(frame.area());
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(heading(console)).style(reversed), head);
    match &console.view {
        View::Home => home(console, frame, body, plain),
        View::Interfaces { at } => interfaces(console, *at, frame, body, plain),
        View::Tests { at } => list("Tests of the network", TESTS, *at, frame, body, plain),
        View::Power { at } => list("Restart and shut down", POWER, *at, frame, body, plain),
        View::Form(form) => show_form(form, frame, body, plain),
        View::Plan { lines, .. } => {
            let mut shown: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(format!("- {line}"))).collect();
            shown.push(Line::raw(""));
            let within = crate::state::CONFIRM_MS / 1000;
            shown.push(Line::raw(format!(
                "Applied, it waits {within} seconds for your confirmation, and goes back by itself without it."
            )));
            text("This would be changed", shown, frame, body, plain);
        }
        View::Confirming => text("Does it work?", confirming(console), frame, body, plain),
        View::Question { text: question, .. } => {
            text("Question", vec![Line::raw(question.as_str())], frame, body, plain);
        }
        View::Told { title, lines } => {
            let shown = lines.iter().map(|line| Line::raw(line.as_str())).collect();
            text(title, shown, frame, body, plain);
        }
        View::Waiting(doing) => text("", vec![Line::raw(format!("{doing} ..."))], frame, body, plain),
    }
    let wrong = console.wrong.clone().or_else(|| console.facts.trouble.clone()).unwrap_or_default();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(format!(" {wrong}")).style(bold), message);
    frame.render_widget(Paragraph::new(hints(&console.view)).style(reversed), keys);
    clean(frame, plain);
}

/// No text of others moves the cursor or needs a letter that the terminal does not have.
fn clean(frame: &mut Frame<'_>, plain: bool) {
    for cell in &mut frame.buffer_mut().content {
        let symbol = cell.symbol();
        if symbol.chars().any(char::is_control) || (plain && !symbol.is_ascii()) {
            cell.set_symbol("?");
        }
    }
}

fn heading(console: &Console) -> String {
    let facts = &console.facts;
    let host = facts.machine.as_ref().map_or("", |machine| machine.host.as_str());
    match &facts.status {
        Some(status) => {
            format!(
                " Evenkeel {}   {host}   {}   revision {}",
                status.version, status.node.role, status.revision
            )
        }
        None => format!(" Evenkeel   {host}"),
    }
}

fn hints(view: &View) -> &'static str {
    match view {
        View::Home => " Up, Down or a number, Enter",
        View::Interfaces { .. } | View::Tests { .. } | View::Power { .. } => {
            " Up, Down or a number, Enter   Esc: back"
        }
        View::Form(form) => match form.kind {
            crate::form::FormKind::Interface | crate::form::FormKind::Machine => {
                " Up, Down: fields   Enter: see what it would do   Esc: back"
            }
            _ => " Up, Down: fields   Enter   Esc: back",
        },
        View::Plan { .. } => " Enter: do it   Esc: do nothing",
        View::Confirming => " Enter: keep it   Esc: go back at once",
        View::Question { .. } => " y: yes   n: no",
        View::Told { .. } => " Enter",
        View::Waiting(_) => "",
    }
}

fn framed(title: &str, plain: bool) -> Block<'static> {
    let title = if title.is_empty() { String::new() } else { format!(" {title} ") };
    Block::bordered().title(title).border_set(if plain { PLAIN } else { border::PLAIN })
}

fn text(title: &str, lines: Vec<Line<'_>>, frame: &mut Frame<'_>, place: Rect, plain: bool) {
    let shown = Paragraph::new(lines).wrap(Wrap { trim: false }).block(framed(title, plain));
    frame.render_widget(shown, place);
}

fn entries<'a>(names: impl Iterator<Item = &'a str>, at: usize) -> Vec<Line<'a>> {
    let entry = |(number, name): (usize, &'a str)| {
        let mark = if number == at { '>' } else { ' ' };
        let line = Line::raw(format!("{mark} {} {name}", number + 1));
        if number == at { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
    };
    names.enumerate().map(entry).collect()
}

fn list(title: &str, names: &[&str], at: usize, frame: &mut Frame<'_>, place: Rect, plain: bool) {
    text(title, entries(names.iter().copied(), at), frame, place, plain);
}

fn home(console: &Console, frame: &mut Frame<'_>, place: Rect, plain: bool) {
    let height = HOME.len() as u16 + 2;
    let [above, below] = Layout::vertical([Constraint::Min(3), Constraint::Length(height)]).areas(place);
    let facts = console.facts();
    text("This machine", facts.iter().map(|line| Line::raw(line.as_str())).collect(), frame, above, plain);
    list("What shall be done", HOME, console.home_at, frame, below, plain);
}

impl Console {
    /// The first screen's lines.
    fn facts(&self) -> Vec<String> {
        let facts = &self.facts;
        let mut lines = Vec::new();
        let mut say = |label: &str, what: String| lines.push(format!("{label:<11}{what}"));
        let addresses = facts.addresses();
        for (at, (interface, address)) in addresses.iter().take(ADDRESSES_AT_MOST).enumerate() {
            say(if at == 0 { "Addresses" } else { "" }, format!("{interface:<10}{address}"));
        }
        match addresses.len().saturating_sub(ADDRESSES_AT_MOST) {
            0 if addresses.is_empty() => say("Addresses", "none: set one under 1".into()),
            0 => {}
            more => say("", format!("and {more} more")),
        }
        if let Some(status) = &facts.status {
            let peer = status.node.peer.as_ref();
            let name =
                |peer: &evenkeel_api::NodePeer| peer.name.clone().unwrap_or_else(|| peer.address.clone());
            let link = |peer: &evenkeel_api::NodePeer| if peer.link { "link up" } else { "NO LINK" };
            say(
                "Peer",
                peer.map_or("none: this node is alone".into(), |p| format!("{}, {}", name(p), link(p))),
            );
            let (troubled, all) = facts.troubled_services();
            let shown: Vec<String> =
                troubled.iter().take(4).map(|(name, state)| format!("{name} is {state}")).collect();
            let well = all - troubled.len();
            say(
                "Services",
                match (all, troubled.len()) {
                    (0, _) => "none yet".into(),
                    (_, 0) => format!("{all}, all up"),
                    (_, more) if more > 4 => format!("{well} of {all} up; {}, ...", shown.join(", ")),
                    _ => format!("{well} of {all} up; {}", shown.join(", ")),
                },
            );
            if let Some(why) = &status.storage {
                say("Storage", why.clone());
            }
        }
        let places = facts.web_ui();
        match places.is_empty() {
            true => say("Web UI", "on no address: [admin] listen says where".into()),
            false => {
                for (at, place) in places.iter().take(2).enumerate() {
                    say(if at == 0 { "Web UI" } else { "" }, place.clone());
                }
            }
        }
        if let Some(code) = &facts.first_code {
            say("First code", format!("{code}  (makes the first person there)"));
        }
        if let Some(left) = facts.confirm_within_ms {
            say("Change", format!("goes back in {} s unless it is confirmed", left / 1000));
        }
        lines
    }
}

fn interfaces(console: &Console, at: usize, frame: &mut Frame<'_>, place: Rect, plain: bool) {
    let facts = &console.facts;
    let addresses = facts.addresses();
    let describe = |name: &String| {
        let own: Vec<&str> =
            addresses.iter().filter(|(of, _)| of == name).map(|(_, address)| address.as_str()).collect();
        let here = facts.machine.iter().flat_map(|m| &m.interfaces).find(|i| i.name == *name);
        let state = match here {
            None => "not there",
            Some(i) if i.carrier => "up",
            Some(i) if i.up => "no cable",
            Some(_) => "down",
        };
        let who = if facts.interface(name).is_some() { "set here" } else { "set elsewhere" };
        format!("{name:<16}{state:<10}{who:<15}{}", own.join(" "))
    };
    let mut shown: Vec<String> = facts.interfaces().iter().map(describe).collect();
    shown.push("new VLAN or bond".into());
    text("Network interfaces", entries(shown.iter().map(String::as_str), at), frame, place, plain);
}

fn show_form(form: &Form, frame: &mut Frame<'_>, place: Rect, plain: bool) {
    let line = |(at, field): (usize, &Field)| {
        let value = match field.kind {
            FieldKind::Hidden => "*".repeat(field.value.chars().count()),
            _ => field.value.clone(),
        };
        let mark = if at == form.at { '>' } else { ' ' };
        // The end of a long value is where the next letter comes.
        let width = usize::from(place.width).saturating_sub(22).max(8);
        let skipped = value.chars().count().saturating_sub(width);
        let value: String = value.chars().skip(skipped).collect();
        let cursor = if at == form.at { "_" } else { "" };
        let line = Line::raw(format!("{mark} {:<16}{value}{cursor}", field.label));
        if at == form.at { line.style(Style::new().add_modifier(Modifier::BOLD)) } else { line }
    };
    let mut lines: Vec<Line<'_>> = form.fields.iter().enumerate().map(line).collect();
    lines.push(Line::raw(""));
    let help = form.fields.get(form.at).map_or("", |field| field.help);
    lines.push(Line::raw(format!("  {help}")));
    text(&form.title, lines, frame, place, plain);
}

fn confirming(console: &Console) -> Vec<Line<'static>> {
    let left = console.facts.confirm_within_ms.unwrap_or(0) / 1000;
    vec![
        Line::raw("The change is applied. Try it: does the machine answer at its addresses?"),
        Line::raw(""),
        Line::raw(format!("Without a word the former settings come back in {left} s.")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::state::Key;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn console() -> Console {
        let machine = json!({"name": "lb1", "host": "lb1", "time-ms": 0, "synchronised": true, "resolvers": [],
            "search": [], "routes": [], "interfaces": [
            {"name": "ens3", "mac": "", "mtu": 1500, "up": true, "carrier": true, "addresses": [
                {"address": "192.0.2.10/24", "placed": false}, {"address": "2001:db8::10/64", "placed": false}]}]});
        let facts = Facts {
            machine: Some(serde_json::from_value(machine).unwrap()),
            values: json!({"admin": {"listen": ["0.0.0.0:9443"]}}),
            first_code: Some("aaaaa-bbbbb-ccccc-ddddd".into()),
            ..Facts::default()
        };
        Console { facts, ..Console::default() }
    }

    fn shown(console: &Console, plain: bool) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(console, frame, plain)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines: Vec<String> = buffer
            .content
            .chunks(80)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect();
        lines.join("\n")
    }

    #[test]
    fn the_first_screen_says_where_to_go() {
        let screen = shown(&console(), true);
        for part in
            ["192.0.2.10/24", "https://192.0.2.10:9443/", "aaaaa-bbbbb-ccccc-ddddd", "> 1 Network", "7 Back"]
        {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
        assert!(screen.is_ascii(), "{screen}");
        assert!(!shown(&console(), false).is_ascii(), "lines where the terminal has them");
    }

    #[test]
    fn every_screen_fits_and_hides_passwords() {
        let mut console = console();
        for keys in ["1", "11", "12", "2", "3", "31", "4", "5", "6", "61", "7"] {
            console.view = View::Home;
            keys.chars().for_each(|key| drop(console.key(Key::Letter(key))));
            let screen = shown(&console, true);
            assert!(screen.lines().count() == 24 && screen.is_ascii(), "{keys}:\n{screen}");
        }
        console.view = View::Home;
        "4ann".chars().for_each(|key| drop(console.key(Key::Letter(key))));
        console.key(Key::Next);
        "secret".chars().for_each(|key| drop(console.key(Key::Letter(key))));
        let screen = shown(&console, true);
        assert!(screen.contains("******_") && !screen.contains("secret"), "{screen}");
    }

    #[test]
    fn texts_of_others_cannot_move_the_cursor() {
        let mut console = console();
        let lines = vec!["a\u{1b}[2Jb \u{202e}x é".to_owned()];
        console.view = View::Told { title: "T".into(), lines };
        let screen = shown(&console, true);
        assert!(!screen.contains('\u{1b}') && screen.is_ascii(), "{screen}");
    }
}
