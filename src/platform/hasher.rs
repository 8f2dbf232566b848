//! Argon2id (RFC 9106) for passwords: a bounded pool of workers with memory of their own, and a bounded queue.
use super::{config, entropy::Entropy, keys::Keys};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};
use tokio::sync::Semaphore;

const SALT_LEN: usize = 16;
const TAG_LEN: usize = 32;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    params: Params,
    keys: Arc<Keys>,
    permits: Arc<Semaphore>,
    workers: usize,
    queue_max: usize,
    waiting: AtomicUsize,
    runs: AtomicU64,
    /// One block list a worker: allocating 46 MiB each time costs as much as the hash.
    memory: Mutex<Vec<Vec<Block>>>,
    /// Verified when there is no account, so that the time says nothing.
    dummy: PasswordHash,
}

/// A hash as it is stored, in PHC string form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// From storage.
    pub fn from_stored(phc: String) -> Self {
        Self(phc)
    }

    /// For storage.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How much of the queue may be taken by whoever comes: strangers leave half of it to those who are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    Half,
    Whole,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    #[error("too many sign-ins at once")]
    Busy,
    #[error("password hashing failed: {0}")]
    Broken(&'static str),
}

/// The verdict on a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Wrong, or there is none.
    Wrong,
    /// Right.
    Right,
    /// Right, and stored under parameters or a pepper that are no longer in use: hash it again.
    RightButOld,
}

struct Stored {
    memory_kib: u32,
    iterations: u32,
    pepper_version: i16,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

impl Hasher {
    /// Fails on parameters that Argon2 refuses.
    pub fn new(config: &config::Password, keys: Arc<Keys>, entropy: &Entropy) -> Result<Self, HasherError> {
        let params = params(config.memory_kib, config.iterations)?;
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let workers = if config.concurrency == 0 { cores } else { config.concurrency };
        // Whatever is verified against it is wrong, so no password has to be hashed for it.
        let dummy = phc(&params, keys.pepper_version(), entropy.bytes(), [0; TAG_LEN]);
        let (permits, memory) = (Arc::new(Semaphore::new(workers)), Mutex::new(vec![vec![]; workers]));
        let (queue_max, waiting, runs) = (config.queue_max, AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { params, keys, permits, workers, queue_max, waiting, runs, memory, dummy })))
    }

    /// How many passwords it has hashed and verified: whoever fails to sign in must cost as much as whoever succeeds.
    pub fn runs(&self) -> u64 {
        self.0.runs.load(Ordering::Relaxed)
    }

    /// Gives the memory of idle workers back: for whoever knows that nobody signs in for a while.
    pub fn rest(&self) {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner).fill_with(Vec::new);
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: String, entropy: &Entropy) -> Result<PasswordHash, HasherError> {
        let salt = entropy.bytes();
        self.work(Queue::Whole, move |inner, blocks| {
            hash(&inner.params, &inner.keys, password.as_bytes(), salt, blocks)
        })
        .await
    }

    /// Verifies; without a stored hash it does the same work and says `Wrong`.
    pub async fn verify(
        &self,
        password: String,
        stored: Option<PasswordHash>,
        queue: Queue,
    ) -> Result<Verdict, HasherError> {
        self.work(queue, move |inner, blocks| {
            let known = stored.is_some();
            let stored = parse(stored.as_ref().unwrap_or(&inner.dummy).as_str())?;
            let params = params(stored.memory_kib, stored.iterations)?;
            let pepper =
                inner.keys.pepper(stored.pepper_version).ok_or(HasherError::Broken("pepper is gone"))?;
            let tag = derive(&params, pepper, password.as_bytes(), &stored.salt, blocks)?;
            let right = verify_slices_are_equal(&tag, &stored.tag).is_ok();
            let current = stored.memory_kib == inner.params.m_cost()
                && stored.iterations == inner.params.t_cost()
                && stored.pepper_version == inner.keys.pepper_version();
            Ok(match (known && right, current) {
                (false, _) => Verdict::Wrong,
                (true, true) => Verdict::Right,
                (true, false) => Verdict::RightButOld,
            })
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        queue: Queue,
        body: impl FnOnce(&Inner, &mut Vec<Block>) -> Result<T, HasherError> + Send + 'static,
    ) -> Result<T, HasherError> {
        let waiting = Waiting::enter(&self.0, queue)?;
        let permits = Arc::clone(&self.0.permits).acquire_owned();
        let permit = permits.await.map_err(|_| HasherError::Broken("the pool is closed"))?;
        drop(waiting);
        self.0.runs.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::clone(&self.0);
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || {
            // Kept here, and not by the request: whoever hangs up does not stop the hash.
            let _permit = permit;
            let _entered = span.enter();
            let lock = || inner.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let mut blocks = lock().pop().unwrap_or_default();
            let result = body(&inner, &mut blocks);
            let mut kept = lock();
            if kept.len() < inner.workers {
                kept.push(blocks);
            }
            result
        });
        done.await.map_err(|_| HasherError::Broken("a worker panicked"))?
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(inner: &'a Inner, queue: Queue) -> Result<Self, HasherError> {
        let room = match queue {
            Queue::Half => inner.queue_max.div_ceil(2),
            Queue::Whole => inner.queue_max,
        };
        let place = Self(&inner.waiting);
        if inner.waiting.fetch_add(1, Ordering::Relaxed) >= room {
            return Err(HasherError::Busy);
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn params(memory_kib: u32, iterations: u32) -> Result<Params, HasherError> {
    Params::new(memory_kib, iterations, 1, Some(TAG_LEN)).map_err(|_| HasherError::Broken("parameters"))
}

fn hash(
    params: &Params,
    keys: &Keys,
    password: &[u8],
    salt: [u8; SALT_LEN],
    blocks: &mut Vec<Block>,
) -> Result<PasswordHash, HasherError> {
    let version = keys.pepper_version();
    let pepper = keys.pepper(version).ok_or(HasherError::Broken("no pepper"))?;
    Ok(phc(params, version, salt, derive(params, pepper, password, &salt, blocks)?))
}

fn phc(params: &Params, pepper_version: i16, salt: [u8; SALT_LEN], tag: [u8; TAG_LEN]) -> PasswordHash {
    let (memory, iterations) = (params.m_cost(), params.t_cost());
    let (salt, tag) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag));
    PasswordHash(format!("$argon2id$v=19$m={memory},t={iterations},p=1,keyid={pepper_version}${salt}${tag}"))
}

fn derive(
    params: &Params,
    pepper: &[u8],
    password: &[u8],
    salt: &[u8],
    blocks: &mut Vec<Block>,
) -> Result<[u8; TAG_LEN], HasherError> {
    let argon = Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, params.clone())
        .map_err(|_| HasherError::Broken("pepper"))?;
    if blocks.len() < params.block_count() {
        blocks.resize(params.block_count(), Block::default());
    }
    let mut tag = [0; TAG_LEN];
    argon
        .hash_password_into_with_memory(password, salt, &mut tag, blocks.as_mut_slice())
        .map_err(|_| HasherError::Broken("derivation"))?;
    Ok(tag)
}

fn parse(phc: &str) -> Result<Stored, HasherError> {
    const BAD: HasherError = HasherError::Broken("the stored hash cannot be read");
    let mut parts = phc.split('$').skip(1);
    let (Some("argon2id"), Some("v=19"), Some(settings), Some(salt), Some(tag), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BAD);
    };
    let setting = |name: &str| {
        settings.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).ok_or(BAD)
    };
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| BAD);
    Ok(Stored {
        memory_kib: setting("m")?.parse().map_err(|_| BAD)?,
        iterations: setting("t")?.parse().map_err(|_| BAD)?,
        pepper_version: setting("keyid")?.parse().map_err(|_| BAD)?,
        salt: decode(salt)?,
        tag: decode(tag)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    fn hasher(memory_kib: u32, queue_max: usize) -> (Hasher, Entropy) {
        let entropy = Entropy::from_seed([1; 32]);
        let config = config::Password { memory_kib, iterations: 1, concurrency: 1, queue_max };
        let keys = Arc::new(Keys::from_seed([2; 32]).unwrap());
        (Hasher::new(&config, keys, &entropy).unwrap(), entropy)
    }

    #[tokio::test]
    async fn right_wrong_unknown_and_old() {
        let (hasher, entropy) = hasher(64, 4);
        let stored = hasher.hash("correct horse".into(), &entropy).await.unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1,keyid=1$"), "{stored:?}");
        let verify = async |password: &str, stored: Option<PasswordHash>| {
            hasher.verify(password.to_owned(), stored, Queue::Whole).await.unwrap()
        };
        assert_eq!(verify("correct horse", Some(stored.clone())).await, Verdict::Right);
        assert_eq!(verify("wrong", Some(stored.clone())).await, Verdict::Wrong);
        assert_eq!(verify("no such account", None).await, Verdict::Wrong, "the dummy opens nothing");
        let (stronger, _) = self::hasher(128, 4);
        assert_eq!(
            stronger.verify("correct horse".into(), Some(stored), Queue::Whole).await.unwrap(),
            Verdict::RightButOld
        );
        let broken =
            hasher.verify("x".into(), Some(PasswordHash::from_stored("plain".into())), Queue::Whole).await;
        assert!(matches!(broken, Err(HasherError::Broken(_))));
    }

    #[tokio::test]
    async fn strangers_leave_half_of_the_queue_to_those_who_are_known() {
        let (hasher, _) = hasher(64, 4);
        let working = Arc::clone(&hasher.0.permits).acquire_owned().await.unwrap();
        let (mut waiting, mut seen) = (vec![], vec![]);
        for queue in [Queue::Half, Queue::Half, Queue::Half, Queue::Whole, Queue::Whole, Queue::Whole] {
            let mut verifying = Box::pin(hasher.verify("x".into(), None, queue));
            seen.push(matches!(futures_util::poll!(&mut verifying), Poll::Ready(Err(HasherError::Busy))));
            waiting.push(verifying);
        }
        assert_eq!(seen, [false, false, true, false, false, true], "busy?");
        drop(working);
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let (hasher, entropy) = hasher(64, 0);
        assert!(matches!(hasher.hash("x".into(), &entropy).await, Err(HasherError::Busy)));
    }
}
