//! Outgoing mail: SMTP, a directory of `.eml` files, or memory.
use super::secret::Secret;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{Mailbox, Message, MultiPart},
};
use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use url::{Host, Url};

type Smtp = AsyncSmtpTransport<Tokio1Executor>;

const SEND_MAX: Duration = Duration::from_secs(20);
const CONNECTIONS_MAX: u32 = 4;

/// Sends mail.
pub struct Mailer {
    from: Mailbox,
    transport: Transport,
}

enum Transport {
    Smtp(Box<Smtp>),
    Dir(PathBuf),
    Memory(Mutex<Vec<Mail>>),
}

/// One mail. Its texts may hold a token: they are sent, and neither logged nor stored.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom it is for.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The plain text.
    pub text: Secret<String>,
    /// The same as HTML.
    pub html: Secret<String>,
    /// Becomes the Message-ID: a mail sent twice is recognised.
    pub message_id: String,
}

/// Why a mail did not go out.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("mail.url: expected smtp://, smtps:// or file:<directory>")]
    Url,
    #[error("mail.from or the recipient is not an address")]
    Address(#[from] lettre::address::AddressError),
    #[error("the mail cannot be composed")]
    Form(#[from] lettre::error::Error),
    #[error("the mail server refuses")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("the mail server does not answer")]
    Timeout,
    #[error("the mail directory cannot be written")]
    Dir(#[from] io::Error),
}

impl Mailer {
    /// By URL: `smtp://` (STARTTLS, which a server of this machine need not offer), `smtps://`, `file:<directory>`.
    pub fn open(url: &str, from: &str) -> Result<Self, MailError> {
        let from = from.parse()?;
        let transport = match url.strip_prefix("file:") {
            Some(path) => {
                let directory = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
                fs::create_dir_all(&directory)?;
                Transport::Dir(directory)
            }
            None if url.starts_with("smtp://") || url.starts_with("smtps://") => {
                let pool = lettre::transport::smtp::PoolConfig::new().max_size(CONNECTIONS_MAX);
                let smtp = Smtp::from_url(&with_tls(url)?)?;
                Transport::Smtp(Box::new(smtp.timeout(Some(SEND_MAX)).pool_config(pool).build()))
            }
            None => return Err(MailError::Url),
        };
        Ok(Self { from, transport })
    }

    /// Keeps every mail, for tests.
    pub fn memory() -> Result<Self, MailError> {
        Ok(Self { from: "identityd@localhost".parse()?, transport: Transport::Memory(Mutex::default()) })
    }

    /// Connects, with TLS and login as to send, and sends nothing.
    pub async fn check(&self) -> Result<(), MailError> {
        match &self.transport {
            Transport::Smtp(smtp) => match tokio::time::timeout(SEND_MAX, smtp.test_connection()).await {
                Ok(Ok(true)) => Ok(()),
                Ok(Ok(false)) | Err(_) => Err(MailError::Timeout),
                Ok(Err(error)) => Err(error.into()),
            },
            Transport::Dir(_) | Transport::Memory(_) => Ok(()),
        }
    }

    /// The domain of Message-IDs.
    pub fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Sends. At least once: a failure may hide a mail that went out.
    pub async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(mail.to.parse()?)
            .subject(&mail.subject)
            .message_id(Some(format!("<{}>", mail.message_id)))
            .multipart(MultiPart::alternative_plain_html(
                mail.text.expose().clone(),
                mail.html.expose().clone(),
            ))?;
        match &self.transport {
            Transport::Smtp(smtp) => match tokio::time::timeout(SEND_MAX, smtp.send(message)).await {
                Ok(answer) => drop(answer?),
                Err(_) => return Err(MailError::Timeout),
            },
            Transport::Dir(directory) => write_whole(directory, mail, &message.formatted())?,
            Transport::Memory(sent) => {
                sent.lock().unwrap_or_else(PoisonError::into_inner).push(mail.clone());
            }
        }
        Ok(())
    }

    /// Takes what the memory variant kept.
    pub fn take_sent(&self) -> Vec<Mail> {
        match &self.transport {
            Transport::Memory(sent) => {
                std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Transport::Smtp(_) | Transport::Dir(_) => vec![],
        }
    }
}

/// Can `Mailer::open` read it?
pub fn is_url(url: &str) -> bool {
    url.starts_with("file:") || with_tls(url).is_ok_and(|url| Smtp::from_url(&url).is_ok())
}

/// Can mails be sent under this name?
pub fn is_sender(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// lettre speaks in clear over `smtp://` unless it is told `tls=`. A mail holds a token: it is told, unless the URL says
/// something else itself, or the server is on this machine.
fn with_tls(url: &str) -> Result<String, MailError> {
    let mut parsed = Url::parse(url).map_err(|_| MailError::Url)?;
    let local = match parsed.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        None => return Err(MailError::Url),
    };
    let said = parsed.query_pairs().any(|(name, _)| name == "tls");
    if parsed.scheme() == "smtp" && !local && !said {
        parsed.query_pairs_mut().append_pair("tls", "required");
    }
    Ok(parsed.into())
}

/// Under a name that sorts by job, and visible only when complete.
fn write_whole(directory: &Path, mail: &Mail, bytes: &[u8]) -> io::Result<()> {
    let name: String = mail.message_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let draft = directory.join(format!(".{name}.draft"));
    fs::write(&draft, bytes)?;
    fs::rename(draft, directory.join(format!("{name}.eml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_gets_one_file_a_mail() {
        let directory = std::env::temp_dir().join(format!("identityd-mail-{}", std::process::id()));
        let mailer = Mailer::open(&format!("file:{}", directory.display()), "Us <us@example.io>").unwrap();
        let mail = Mail {
            to: "Zoë <z@example.io>".into(),
            subject: "Grüße".into(),
            text: Secret::new("plain".into()),
            html: Secret::new("<p>rich</p>".into()),
            message_id: "0190-1@example.io".into(),
        };
        mailer.send(&mail).await.unwrap();
        mailer.send(&mail).await.unwrap();
        let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "a mail sent twice is one mail");
        let text = fs::read_to_string(&files[0]).unwrap();
        assert!(text.contains("Message-ID: <0190-1@example.io>") && text.contains("<p>rich</p>"), "{text}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_mail_that_leaves_the_machine_is_encrypted() {
        let tls = |url: &str| with_tls(url).unwrap();
        assert_eq!(tls("smtp://u:p@mail.example:587"), "smtp://u:p@mail.example:587?tls=required");
        assert_eq!(tls("smtp://mail.example?tls=opportunistic"), "smtp://mail.example?tls=opportunistic");
        for as_it_is in
            ["smtp://localhost:25", "smtp://127.0.0.1:25", "smtp://[::1]:25", "smtps://mail.example"]
        {
            assert_eq!(tls(as_it_is), as_it_is);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        assert!(matches!(Mailer::open("http://x", "us@example.io"), Err(MailError::Url)));
        assert!(matches!(Mailer::open("file:/tmp", "nobody"), Err(MailError::Address(_))));
    }
}
