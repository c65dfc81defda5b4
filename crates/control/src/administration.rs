//! The listeners of the administration: the Unix socket, HTTPS, plain HTTP; who may come in.
//! Listeners follow the configuration; those that stay the same keep their socket.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use evenkeel_admin::{Accounts, App, Audit, Feed, Handle, Listening, Tls};
use evenkeel_model::{AdminSettings, Snapshot};
use tracing::{error, info, warn};

use super::control::wall_ms;
use crate::outcome::{Exit, Failure};

/// What is inherited: addresses with their sockets.
pub type Sockets = Vec<(SocketAddr, OwnedFd)>;

pub struct Administration {
    app: App,
    _socket: Listening,
    places: Vec<AdminSocket>,
    tls: Option<Tls>,
    /// Of the certificate's file when it was read.
    read_at: Option<SystemTime>,
    settings: AdminSettings,
    refused: Option<String>,
}

struct AdminSocket {
    address: SocketAddr,
    kept: OwnedFd,
    listening: Option<Listening>,
    https: bool,
}

/// What a configuration that is about to run needs, and could fail for.
#[derive(Default)]
pub struct Prepared {
    /// All listeners of the configuration; nothing where they stay as they are.
    doors: Option<Vec<Door>>,
    tls: Option<Certificate>,
}

/// An open socket that nobody accepts from yet.
struct Door {
    address: SocketAddr,
    https: bool,
    /// Nothing where the place has it already.
    kept: Option<OwnedFd>,
    listener: tokio::net::TcpListener,
}

/// A certificate that is ready for use, and of when its file is.
struct Certificate {
    config: Arc<evenkeel_admin::ServerConfig>,
    read_at: Option<SystemTime>,
}

impl Administration {
    pub fn start(
        snapshot: &Snapshot,
        node: &str,
        handle: Handle,
        feed: Feed,
        adopted: Sockets,
    ) -> Result<Administration, Failure> {
        let failed = |e: String| Failure::new(Exit::Failed, e);
        let folder = &snapshot.state_directory;
        evenkeel_files::make_folder(folder)?;
        let idle = snapshot.admin.session_timeout.as_millis() as u64;
        let write = evenkeel_files::write_private;
        let accounts = Accounts::open(&folder.join("accounts.json"), idle, write).map_err(failed)?;
        let audit = Audit::open(&folder.join("audit"), write).map_err(failed)?;
        let app = App { handle, accounts, audit, feed, node: node.into() };
        let private = |e: std::io::Error| {
            let socket = snapshot.admin.socket.display();
            Failure::new(Exit::Failed, format!("cannot listen on {socket}: {e}"))
        };
        let socket = evenkeel_platform::listen_private(&snapshot.admin.socket).map_err(private)?;
        socket.set_nonblocking(true)?;
        let socket = evenkeel_admin::socket(tokio::net::UnixListener::from_std(socket)?, &app);
        let none = AdminSettings { listen: Vec::new(), plain_listen: Vec::new(), ..snapshot.admin.clone() };
        let mut administration = Administration {
            app,
            _socket: socket,
            places: Vec::new(),
            tls: None,
            read_at: None,
            settings: none,
            refused: None,
        };
        let prepared = administration.prepare(snapshot, adopted).map_err(failed)?;
        administration.reconfigure(snapshot, prepared);
        administration.greet();
        Ok(administration)
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// For a successor.
    pub fn sockets(&self) -> Vec<(SocketAddr, BorrowedFd<'_>)> {
        self.places.iter().map(|p| (p.address, p.kept.as_fd())).collect()
    }

    /// Ends the conversations; the sockets stay for whoever has them.
    pub fn silence(&mut self) {
        self.places.iter_mut().for_each(|p| p.listening = None);
    }

    /// Opens what a configuration needs beside what is open, before anything is changed.
    pub fn prepare(&self, snapshot: &Snapshot, adopted: Sockets) -> Result<Prepared, String> {
        let settings = &snapshot.admin;
        let tls = match settings.listen.is_empty() || *settings == self.settings {
            true => None,
            false => Some(self.read_tls(snapshot)?),
        };
        let doors = match *settings == self.settings {
            true => None,
            false => Some(self.open_doors(settings, adopted)?),
        };
        Ok(Prepared { doors, tls })
    }

    fn open_doors(&self, settings: &AdminSettings, mut adopted: Sockets) -> Result<Vec<Door>, String> {
        let wanted = settings.listen.iter().map(|l| (l.0, true));
        let wanted = wanted.chain(settings.plain_listen.iter().map(|l| (l.0, false)));
        let own = self.places.iter().map(|p| p.address).chain(adopted.iter().map(|(a, _)| *a));
        let mut own: HashSet<u16> = own.map(|address| address.port()).collect();
        let mut doors = Vec::new();
        for (address, https) in wanted {
            let failed = |e: std::io::Error| format!("cannot listen on {address}: {e}");
            let place = self.places.iter().find(|p| p.address == address);
            let kept = match (place, adopted.iter().position(|(a, _)| *a == address)) {
                (Some(_), _) => None,
                (None, Some(at)) => Some(adopted.swap_remove(at).1),
                (None, None) => {
                    if own.insert(address.port()) {
                        evenkeel_l7::check_free(address, false, self.places.is_empty()).map_err(failed)?;
                    }
                    Some(evenkeel_l7::listen(address, false).map_err(failed)?)
                }
            };
            let Some(socket) = kept.as_ref().or(place.map(|p| &p.kept)) else { continue };
            let clone = socket.try_clone().map_err(failed)?;
            let listener = tokio::net::TcpListener::from_std(clone.into()).map_err(failed)?;
            doors.push(Door { address, https, kept, listener });
        }
        Ok(doors)
    }

    /// Listens where the configuration says, with its certificate.
    pub fn reconfigure(&mut self, snapshot: &Snapshot, prepared: Prepared) {
        let new = &snapshot.admin;
        self.app.accounts.set_idle(new.session_timeout.as_millis() as u64);
        if let Some(certificate) = prepared.tls {
            self.show(certificate);
        }
        let Some(doors) = prepared.doors else { return };
        let mut before: Sockets =
            std::mem::take(&mut self.places).into_iter().map(|p| (p.address, p.kept)).collect();
        let https_port = new.listen.first().map(|l| l.0.port());
        for Door { address, https, kept, listener } in doors {
            let of_before = before.iter().position(|(a, _)| *a == address);
            let Some(kept) = kept.or_else(|| of_before.map(|at| before.swap_remove(at).1)) else { continue };
            let listening = match (&self.tls, https) {
                (Some(tls), true) => {
                    evenkeel_admin::secure(listener, tls.clone(), new.allow.clone(), &self.app)
                }
                _ => evenkeel_admin::plain(listener, new.metrics_allow.clone(), https_port, &self.app),
            };
            self.places.push(AdminSocket { address, kept, listening: Some(listening), https });
        }
        self.settings = new.clone();
    }

    /// Closes what is open, and listens with the certificate as the file has it now.
    pub fn restart(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let settings = &snapshot.admin;
        let tls = if settings.listen.is_empty() { None } else { Some(self.read_tls(snapshot)?) };
        let doors = Some(self.open_doors(settings, Sockets::new())?);
        self.silence();
        self.reconfigure(snapshot, Prepared { doors, tls });
        Ok(())
    }

    /// New connections see this certificate.
    fn show(&mut self, certificate: Certificate) {
        self.read_at = certificate.read_at;
        match &self.tls {
            Some(tls) => *tls.write().unwrap_or_else(PoisonError::into_inner) = certificate.config,
            None => self.tls = Some(Arc::new(RwLock::new(certificate.config))),
        }
    }

    fn read_tls(&self, snapshot: &Snapshot) -> Result<Certificate, String> {
        let file = match &snapshot.admin.certificate {
            Some(file) => file.clone(),
            None => own_certificate(&snapshot.state_directory, &self.app.node)?,
        };
        let named = |e: String| format!("[admin] certificate {}: {e}", file.display());
        let pem = evenkeel_files::read_text(&file, evenkeel_files::PEM_AT_MOST)
            .map_err(|e| named(e.to_string()))?;
        let config = evenkeel_admin::tls(&pem, snapshot.admin.only_tls13).map_err(named)?;
        Ok(Certificate { config, read_at: modified(&file) })
    }

    /// Takes a certificate that was renewed on disk.
    pub fn look_at_files(&mut self, snapshot: &Snapshot) {
        let Some(file) = snapshot.admin.certificate.clone().filter(|_| self.tls.is_some()) else { return };
        if modified(&file) == self.read_at {
            return;
        }
        match self.read_tls(snapshot) {
            Ok(certificate) => {
                self.show(certificate);
                self.refused = None;
                info!(file = %file.display(), "the web UI has a new certificate");
            }
            Err(why) if self.refused.as_deref() == Some(&why) => {}
            Err(why) => {
                error!(why, "the web UI keeps its old certificate");
                self.refused = Some(why);
            }
        }
    }

    /// Where the web UI is, and how the first person is made.
    fn greet(&self) {
        let https = self.places.iter().filter(|p| p.https).map(|p| p.address);
        for address in https {
            info!("the web UI is at https://{address}/");
        }
        if self.places.iter().any(|p| p.https)
            && let Some(code) = self.app.accounts.first_code()
        {
            warn!(
                "nobody can log in yet: open the web UI and make the first person with the code {code}, or run `evenkeel user add NAME --role admin`"
            );
        }
        if !evenkeel_admin::ui_is_built() && self.places.iter().any(|p| p.https) {
            warn!("this program was built without the web UI; the REST API is complete");
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|m| m.modified()).ok()
}

/// A certificate of this node's own making, made anew before it ends.
fn own_certificate(folder: &Path, node: &str) -> Result<std::path::PathBuf, String> {
    const DAYS: u64 = 365;
    let file = folder.join("admin.pem");
    let half = std::time::Duration::from_secs(DAYS / 2 * 86_400);
    let fresh = modified(&file).and_then(|at| at.elapsed().ok()).is_some_and(|age| age < half);
    if fresh {
        return Ok(file);
    }
    let failed = |e: &dyn std::fmt::Display| format!("a certificate cannot be made: {e}");
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(node.to_owned());
    names.retain(|n| n.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c)));
    let mut parameters = rcgen::CertificateParams::new(names).map_err(|e| failed(&e))?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("Evenkeel {node}"));
    let now = wall_ms() / 1000;
    let day = |seconds: u64| {
        let at = jiff::Timestamp::from_second(seconds as i64).unwrap_or_default();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month() as u8, date.day() as u8)
    };
    parameters.not_before = day(now.saturating_sub(86_400));
    parameters.not_after = day(now + (DAYS - 1) * 86_400);
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let key = rcgen::KeyPair::generate().map_err(|e| failed(&e))?;
    let certificate = parameters.self_signed(&key).map_err(|e| failed(&e))?;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    evenkeel_files::write_private(&file, pem.as_bytes()).map_err(|e| failed(&e))?;
    info!(file = %file.display(), "made a certificate for the web UI");
    Ok(file)
}
