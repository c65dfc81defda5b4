//! `lb_config.xml`, the file that Loadbalancer.org's appliance gives for its recovery. Its maker has published the part
//! about the node alone (`physical`); what else is in it is named and left out.

use roxmltree::{Document, Node};

use crate::draft::Draft;

pub fn read(text: &str, draft: &mut Draft) {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.pos().row as usize;
            return draft.wrong(line, "lb_config", format!("it is no XML that can be read: {error}"));
        }
    };
    let line = |node: &Node| document.text_pos_at(node.range().start).row as usize;
    for leaf in document.descendants().filter(is_leaf) {
        let above: Vec<&str> = names_above(&leaf);
        let value = leaf.text().unwrap_or("").trim();
        let path: Vec<&str> = above.iter().copied().skip_while(|name| *name != "physical").collect();
        match path.as_slice() {
            [_, "network", "hostname"] if !value.is_empty() => draft.global("node").text("host-name", value),
            [_, "network", "slave"] if !value.is_empty() => {
                let why = format!(
                    "{value} was the other node of a pair: write [pair] on both, then `evenkeel pair invite` (docs/pair.md)"
                );
                draft.left(line(&leaf), "slave", why);
            }
            [_, "network", "fullsync"] => {
                draft.remark(
                    line(&leaf),
                    "fullsync",
                    "the nodes of a pair have one configuration by themselves",
                );
            }
            [_, "rip", interface, "ip"] if !value.is_empty() => {
                let why = format!(
                    "{value} of {interface} is the node's own address: the system gives it, not this configuration"
                );
                draft.note(line(&leaf), "ip", why);
            }
            // Values stay out of the message: passwords are among them.
            _ if value.is_empty() => {}
            [_, "network", ..] | [_, "rip", ..] => {
                draft.left(
                    line(&leaf),
                    leaf.tag_name().name(),
                    format!("{}: not carried over", above.join("/")),
                );
            }
            _ => {
                let why = format!(
                    "{}: this part of the file is not public, write it by hand from the pages of the appliance",
                    above.join("/")
                );
                draft.grave(line(&leaf), leaf.tag_name().name(), why);
            }
        }
    }
}

fn is_leaf(node: &Node) -> bool {
    node.is_element() && !node.children().any(|child| child.is_element())
}

/// From the document's element down.
fn names_above<'a>(leaf: &Node<'a, '_>) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        leaf.ancestors().filter(Node::is_element).map(|node| node.tag_name().name()).collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use crate::SourceKind;
    use crate::tests::told;

    fn made(text: &str) -> crate::Imported {
        crate::tests::made(SourceKind::LbConfig, text)
    }

    #[test]
    fn the_node_is_carried_and_the_rest_is_named() {
        let made = made(
            "<config>\n<physical><network>\n<hostname>lbmaster</hostname>\n<slave>192.168.2.81</slave>\n<fullsync>on</fullsync></network>\n<rip><eth0><ip>192.168.2.80</ip></eth0><eth1><ip/></eth1></rip></physical>\n<virtual><vip>10.0.0.1</vip><password>secret</password></virtual>\n</config>\n",
        );
        assert!(made.text.contains("host-name = \"lbmaster\""), "{}", made.text);
        assert_eq!(
            told(&made),
            [
                (4, "slave", "lost"),
                (5, "fullsync", "remark"),
                (6, "ip", "note"),
                (7, "vip", "grave"),
                (7, "password", "grave")
            ]
        );
    }

    /// Also what means to exhaust its reader.
    #[test]
    fn what_is_no_xml_is_refused() {
        for text in ["not xml", "<a><b></a>", "<!DOCTYPE a [<!ENTITY b \"x\">]><a>&b;</a>"] {
            let first = told(&made(text)).first().map(|(_, word, kind)| (word.to_string(), *kind));
            assert_eq!(first, Some(("lb_config".to_owned(), "wrong")));
        }
        let deep = "<a>".repeat(100_000);
        assert_eq!(told(&made(&deep)).len(), 1);
    }
}
