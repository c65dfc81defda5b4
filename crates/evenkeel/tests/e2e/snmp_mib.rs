//! EVENKEEL-MIB before smilint, as those check it who load it into their monitoring.

use std::process::Command;

use evenkeel_testbed::{Place, require};

/// What smilint says of a MIB, without one remark: the nodes between `enterprises` and netSnmpPlaypen have no
/// definition of their own, since they are Net-SNMP's.
fn remarks(place: &Place, text: &str) -> String {
    let file = place.write("EVENKEEL-MIB.txt", text);
    let standard = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/mibs");
    let config = place.write("smi.conf", format!("path :{standard}\n"));
    let output = Command::new("smilint").arg("-c").arg(config).args(["-l", "6"]).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines().filter(|line| !line.ends_with("implicit node definition")).collect::<Vec<_>>().join("\n")
}

#[test]
fn smilint_has_nothing_to_say_of_the_mib() {
    if !require(&["smilint"]) {
        return;
    }
    let place = Place::new("snmp-mib");
    let mib = include_str!("../../../../packaging/snmp/EVENKEEL-MIB.txt");
    assert_eq!(remarks(&place, mib), "");
    // It would say it.
    for (from, to) in [
        ("SYNTAX      SnmpAdminString", "SYNTAX      AdminString"),
        ("{ evObjects 2 }", "{ evObjects 1 }"),
        ("STATUS      current", "STATUS      recent"),
    ] {
        assert!(mib.contains(from), "{from}");
        assert_ne!(remarks(&place, &mib.replacen(from, to, 1)), "", "{to}");
    }
}
