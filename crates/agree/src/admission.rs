//! What must hold before a node changes anything for somebody: a commit, or a backup that is restored.
//!
//! In: what was asked for, what the node knows of itself and of the other one. Out: why not. Never: a disk, a text.

/// Why nothing is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// It was made for another revision than the running one.
    OtherRevision,
    /// The text is no configuration, or this machine cannot run it.
    Unusable,
    /// What would run could not be stored, and would be lost with the process.
    NotStorable,
    /// The active node runs on, and what is restored here would replace what it runs.
    Passive,
}

/// A commit that somebody asks for on this node. What is asked for by a person comes first: it is the reason that they
/// can do something about.
#[derive(Clone, Copy, Debug)]
pub struct CommitRequest {
    /// The revision that it was made for, where that was said.
    pub base: Option<u64>,
    pub running: u64,
}

impl CommitRequest {
    /// The text is read, and the disk asked, only while nothing before speaks against it.
    pub fn admit<E>(
        self,
        usable: impl FnOnce() -> Result<(), E>,
        storable: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), (NotAdmitted, Option<E>)> {
        if self.base.is_some_and(|base| base != self.running) {
            return Err((NotAdmitted::OtherRevision, None));
        }
        usable().map_err(|why| (NotAdmitted::Unusable, Some(why)))?;
        storable().map_err(|why| (NotAdmitted::NotStorable, Some(why)))
    }
}

/// In a pair a backup is both nodes': it does not come from the one that only follows.
pub fn admits_backup(active: bool, linked: bool) -> Result<(), NotAdmitted> {
    if !active && linked { Err(NotAdmitted::Passive) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_told_and_nothing_is_tried_after_it() {
        let (usable, unusable) = (|| Ok::<(), u8>(()), || Err::<(), u8>(1));
        let full = || Err::<(), u8>(2);
        let untried = || -> Result<(), u8> { unreachable!() };
        let request = |base| CommitRequest { base, running: 7 };
        assert_eq!(request(None).admit(usable, usable), Ok(()));
        assert_eq!(request(Some(7)).admit(usable, usable), Ok(()));
        let other = Err((NotAdmitted::OtherRevision, None));
        assert_eq!(request(Some(6)).admit(untried, untried), other);
        assert_eq!(request(Some(8)).admit(untried, untried), other);
        assert_eq!(request(None).admit(unusable, untried), Err((NotAdmitted::Unusable, Some(1))));
        assert_eq!(request(Some(7)).admit(usable, full), Err((NotAdmitted::NotStorable, Some(2))));
    }

    #[test]
    fn a_backup_is_restored_where_nobody_else_runs_something() {
        for (active, linked, admitted) in
            [(true, true, true), (true, false, true), (false, false, true), (false, true, false)]
        {
            assert_eq!(admits_backup(active, linked).is_ok(), admitted, "{active} {linked}");
        }
    }
}
