//! Object stores: S3, Google Cloud Storage, Azure and HTTP servers, whose objects are fetched by key
//! and range.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error as ObjectError, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreExt, ObjectStoreScheme, RetryConfig,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::errors::{Error, Result};
use crate::store::Stamp;

/// How often a read that waits looks for an interrupt.
pub const TICK: Duration = Duration::from_millis(100);

static RUNTIME: Mutex<Option<(u32, Arc<Runtime>)>> = Mutex::new(None);

/// What drives the requests of this process: a process that was forked has not its threads.
///
/// The GIL must be held: `os.fork` holds it too, so the lock is free in every child.
pub fn runtime(_py: Python<'_>) -> Result<Arc<Runtime>> {
    const THREADS: usize = 4;
    let process = std::process::id();
    let mut current = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, runtime)) = current.as_ref()
        && *owner == process
    {
        return Ok(Arc::clone(runtime));
    }
    // Dropping that of the parent would wait for threads that do not exist here.
    std::mem::forget(current.take());
    // An error only says that there is one, of a process before this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads.min(THREADS))
        .thread_name("tempozarr-requests")
        .enable_all()
        .build()
        .map_err(|error| Error::Store(format!("cannot start threads for requests: {error}")))?;
    let runtime = Arc::new(runtime);
    *current = Some((process, Arc::clone(&runtime)));
    Ok(runtime)
}

/// Wait for `future` with the GIL released; an interrupt, as of Ctrl-C, ends it.
fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = runtime(py)?;
    py.detach(|| {
        let mut future = pin!(future);
        loop {
            if let Ok(result) = runtime.block_on(async { timeout(TICK, &mut future).await }) {
                return Ok(result);
            }
            check_signals()?;
        }
    })
}

/// Run the handlers of signals that have come, as of Ctrl-C; the error is what one raised.
pub fn check_signals() -> PyResult<()> {
    fn check(py: Python<'_>) -> PyResult<()> {
        py.check_signals()
    }
    Python::attach(check)
}

/// A prefix of an object store.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Objects {
    url: Url,
    options: BTreeMap<String, String>,
    /// The process that it is of, too: connections are not shared with the parent.
    client: Mutex<(u32, Arc<Client>)>,
}

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted from Python objects"
)]
impl Objects {
    /// What is below a URL, with options as `object_store` names them.
    ///
    /// `ValueError` if these cannot be used.
    #[new]
    fn new(py: Python<'_>, url: &str, options: BTreeMap<String, String>) -> PyResult<Self> {
        let parsed = parse(url)?;
        runtime(py)?; // which chooses who encrypts
        let client = Client::new(&parsed, &options)?;
        Ok(Self {
            url: parsed,
            options,
            client: Mutex::new((std::process::id(), Arc::new(client))),
        })
    }

    /// The contents of objects, None for one that does not exist.
    ///
    /// `StoreError` if one cannot be fetched, or has more than 64 MiB: these are documents.
    fn get<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<String>,
    ) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
        const LIMIT: u64 = 64 << 20;
        let client = self.client(py)?;
        let found = wait(py, async {
            let gets = keys.iter().map(|key| client.get(key, None, LIMIT));
            futures::future::try_join_all(gets).await
        })??;
        let bytes = |object: Option<Object>| Some(PyBytes::new(py, &object?.bytes));
        Ok(found.into_iter().map(bytes).collect())
    }

    /// Names of the folders in the folder `path`, in order.
    ///
    /// `StoreError` if the store cannot list.
    fn folders(&self, py: Python<'_>, path: &str) -> PyResult<Vec<String>> {
        let client = self.client(py)?;
        Ok(wait(py, async { client.folders(path).await })??)
    }
}

impl Objects {
    /// The URL.
    pub fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// What fetches its objects in this process.
    ///
    /// The GIL must be held, as for [`runtime`].
    pub fn client(&self, _py: Python<'_>) -> Result<Arc<Client>> {
        let process = std::process::id();
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 != process {
            let own = Arc::new(Client::new(&self.url, &self.options)?);
            std::mem::forget(std::mem::replace(&mut *client, (process, own)));
        }
        Ok(Arc::clone(&client.1))
    }
}

/// Fetches objects, so many at a time.
#[derive(Debug)]
pub struct Client {
    store: Arc<dyn ObjectStore>,
    /// The URL, for people.
    url: String,
    prefix: Path,
    retry: RetryConfig,
    concurrency: usize,
    slots: Semaphore,
    secrets: Vec<String>,
    /// Whether the server was seen to ignore ranges.
    ignores_ranges: AtomicBool,
}

/// Bytes of an object that were fetched.
#[derive(Debug)]
pub struct Object {
    /// The bytes,
    pub bytes: Vec<u8>,
    /// and where in the object they begin.
    pub start: u64,
    /// Bytes of the whole object.
    pub size: u64,
    /// What tells it from one that replaces it.
    pub stamp: Stamp,
}

impl Object {
    /// Whether that is all of it.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.size
    }
}

/// Why an object was not fetched.
enum Failure {
    /// There is none.
    Absent,
    /// The store cannot do that, in words.
    Unsupported(String),
    /// Something that has been retried, or would be the same again.
    Final(String),
    /// The response broke off.
    Broken(String),
}

impl Client {
    fn new(url: &Url, options: &BTreeMap<String, String>) -> Result<Self> {
        const CONCURRENCY: usize = 64;
        let mut options = options.clone();
        let mut number = |name, default| match options.remove(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                Error::Value(format!(
                    "storage option {name}: expected a number, got {text:?}"
                ))
            }),
        };
        let max_retries = number("max_retries", 5)?;
        let concurrency = number("concurrency", CONCURRENCY)?.clamp(1, Semaphore::MAX_PERMITS);
        let retry_timeout = match options.remove("retry_timeout") {
            None => Duration::from_secs(90),
            Some(text) => humantime::parse_duration(&text).map_err(|_| {
                Error::Value(format!(
                    "storage option retry_timeout: expected a duration such as '90 seconds', got \
                     {text:?}"
                ))
            })?,
        };
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: Duration::from_secs(5),
                ..BackoffConfig::default()
            },
            max_retries,
            retry_timeout,
        };
        let secrets = secrets(&options);
        let (store, prefix) = connect(url, &options, &retry).map_err(|error| match error {
            Error::Value(text) => Error::Value(redacted(text, &secrets)),
            error => error,
        })?;
        Ok(Self {
            store,
            url: url.as_str().trim_end_matches('/').into(),
            prefix,
            retry,
            concurrency,
            slots: Semaphore::new(concurrency),
            secrets,
            ignores_ranges: AtomicBool::new(false),
        })
    }

    /// Requests that are under way at a time.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Whether the server was seen to ignore ranges.
    pub fn ignores_ranges(&self) -> bool {
        self.ignores_ranges.load(Ordering::Relaxed)
    }

    /// URL of an object, for people.
    pub fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.url).trim_end_matches('/').into()
    }

    /// The object at `key`, or a range of it; `None` if there is none.
    ///
    /// It may be the whole object though a range was asked for. It, or the range, has no more than
    /// `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Store`], with the URL, if it cannot be fetched in the time and with the retries that
    /// the options give.
    pub async fn get(
        &self,
        key: &str,
        range: Option<GetRange>,
        limit: u64,
    ) -> Result<Option<Object>> {
        let path = self.path(key)?;
        // Never closed.
        let _slot = self.slots.acquire().await;
        let attempts = self.attempts(&path, range, limit);
        let within = self.retry.retry_timeout;
        let result = timeout(within, attempts).await.unwrap_or_else(|_| {
            let within = humantime::format_duration(within);
            Err(Failure::Final(format!(
                "there was no complete answer within {within} (storage option retry_timeout)"
            )))
        });
        match result {
            Ok(object) => Ok(Some(object)),
            Err(Failure::Absent) => Ok(None),
            Err(Failure::Unsupported(error) | Failure::Final(error) | Failure::Broken(error)) => {
                Err(self.failed(key, error))
            }
        }
    }

    /// Try until it works, or retrying is of no use.
    async fn attempts(
        &self,
        path: &Path,
        mut range: Option<GetRange>,
        limit: u64,
    ) -> Result<Object, Failure> {
        let mut pause = self.retry.backoff.init_backoff;
        let mut retries = 0;
        loop {
            if self.ignores_ranges() {
                range = None;
            }
            match self.attempt(path, range.clone(), limit).await {
                // Azure has no ranges that count from the end.
                Err(Failure::Unsupported(_)) if let Some(GetRange::Suffix(length)) = range => {
                    let size = self
                        .store
                        .head(path)
                        .await
                        .map_err(|error| failure(&error))?
                        .size;
                    range = Some(GetRange::Bounded(size.saturating_sub(length)..size));
                }
                Err(Failure::Unsupported(_)) if range.is_some() => {
                    self.ignores_ranges.store(true, Ordering::Relaxed);
                }
                // `object_store` goes on where a response broke off only if there is an ETag.
                Err(Failure::Broken(_)) if retries < self.retry.max_retries => {
                    sleep(pause).await;
                    pause = (pause * 2).min(self.retry.backoff.max_backoff);
                    retries += 1;
                }
                result => return result,
            }
        }
    }

    async fn attempt(
        &self,
        path: &Path,
        range: Option<GetRange>,
        limit: u64,
    ) -> Result<Object, Failure> {
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let response = self
            .store
            .get_opts(path, options)
            .await
            .map_err(|error| failure(&error))?;
        let Range { start, end } = response.range;
        let (size, stamp) = (response.meta.size, stamp(&response.meta));
        let expected = end.saturating_sub(start);
        if expected > limit {
            return Err(Failure::Final(format!(
                "expected no more than {limit} bytes, the server announces {expected}"
            )));
        }
        let mut bytes = Vec::new();
        (bytes.try_reserve_exact(expected as usize))
            .map_err(|_| Failure::Final(format!("cannot allocate {expected} bytes for it")))?;
        let mut body = response.into_stream();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Failure::Broken(error.to_string()))?;
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > expected {
                break;
            }
        }
        if bytes.len() as u64 != expected {
            return Err(Failure::Broken(format!(
                "the response broke off, or went on: expected {expected} bytes, got {}",
                bytes.len()
            )));
        }
        Ok(Object {
            bytes,
            start,
            size,
            stamp,
        })
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder)?;
        let list = self.store.list_with_delimiter(Some(&path));
        let within = self.retry.retry_timeout;
        let listed = match timeout(within, list).await {
            Ok(listed) => listed.map_err(|error| error.to_string()),
            Err(_) => Err("there was no answer in time".into()),
        };
        let listed = listed.map_err(|error| {
            let error = format!(
                "cannot list what is there; consolidate the metadata, or open arrays by their own \
                 URLs: {error}"
            );
            self.failed(folder, error)
        })?;
        let names = listed.common_prefixes.iter();
        let names = names.filter_map(|prefix| prefix.filename().map(String::from));
        Ok(names.collect())
    }

    fn path(&self, key: &str) -> Result<Path> {
        let path = format!("{}/{key}", self.prefix);
        Path::parse(path.trim_matches('/')).map_err(|error| self.failed(key, error))
    }

    fn failed(&self, key: &str, error: impl Display) -> Error {
        let error = redacted(error.to_string(), &self.secrets);
        Error::Store(format!("{}: {error}", self.name(key)))
    }
}

/// Fetch ranges of an object side by side.
///
/// # Errors
/// As for [`Client::get`].
pub async fn get_ranges(
    client: Arc<Client>,
    key: String,
    ranges: Vec<Range<u64>>,
    limit: u64,
) -> Result<Vec<Option<Object>>> {
    let mut gets = JoinSet::new();
    for range in ranges {
        let (client, key) = (Arc::clone(&client), key.clone());
        gets.spawn(async move {
            client
                .get(&key, Some(GetRange::Bounded(range)), limit)
                .await
        });
    }
    let mut objects = Vec::with_capacity(gets.len());
    while let Some(object) = gets.join_next().await {
        objects.push(object.map_err(|error| Error::Store(format!("{key}: {error}")))??);
    }
    Ok(objects)
}

/// What tells an object from one that replaces it; its size first.
fn stamp(meta: &ObjectMeta) -> Stamp {
    let mut hasher = DefaultHasher::new();
    (&meta.e_tag, &meta.version).hash(&mut hasher);
    let modified = meta.last_modified.timestamp_micros().cast_unsigned();
    [meta.size, hasher.finish(), modified, 0]
}

fn failure(error: &ObjectError) -> Failure {
    let text = error.to_string();
    // The codes with which S3 and Google, and Azure, say that there is nothing to look in.
    let no_bucket = ["NoSuchBucket", "ContainerNotFound"];
    match error {
        ObjectError::NotFound { .. } if !no_bucket.iter().any(|code| text.contains(code)) => {
            Failure::Absent
        }
        ObjectError::NotSupported { .. } => Failure::Unsupported(text),
        ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => {
            Failure::Final(format!(
                "access is denied; pass credentials as storage_options, or skip_signature=\"true\" \
                 where none are needed (some buckets say this of objects that do not exist, if one \
                 may not list them): {text}"
            ))
        }
        _ => Failure::Final(text),
    }
}

/// A URL without secrets in it.
fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text)
        .map_err(|error| Error::Value(format!("expected the URL of an object store: {error}")))?;
    let is_http = matches!(url.scheme(), "http" | "https");
    if url.password().is_some() || (is_http && !url.username().is_empty()) {
        return Err(Error::Value(
            "expected a URL without a user or a password; pass credentials as storage_options"
                .into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::Value(
            "expected a URL without '?' and '#': the keys of chunks are put behind it; pass \
             credentials as storage_options"
                .into(),
        ));
    }
    Ok(url)
}

/// The store of a URL, and the path within it.
fn connect(
    url: &Url,
    options: &BTreeMap<String, String>,
    retry: &RetryConfig,
) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let failed = |error: &dyn Display| Error::Value(format!("{url}: {error}"));
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| failed(&error))?;
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = $builder.with_retry(retry.clone());
            for (key, value) in options {
                let parsed = key.to_ascii_lowercase().parse().map_err(|_| {
                    failed(&format!(
                        "there is no storage option {key:?} for {scheme:?}; expected one of \
                         object_store's, or max_retries, retry_timeout, concurrency"
                    ))
                })?;
                builder = builder.with_config(parsed, value);
            }
            Arc::new(builder.build().map_err(|error| failed(&error))?) as Arc<dyn ObjectStore>
        }};
    }
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder::from_env().with_url(url.as_str())),
        ObjectStoreScheme::GoogleCloudStorage => {
            build!(GoogleCloudStorageBuilder::from_env().with_url(url.as_str()))
        }
        ObjectStoreScheme::MicrosoftAzure => {
            build!(MicrosoftAzureBuilder::from_env().with_url(url.as_str()))
        }
        ObjectStoreScheme::Http => {
            use object_store::ClientConfigKey::AllowHttp;
            let server = &url[..url::Position::BeforePath];
            let builder = HttpBuilder::new().with_url(server);
            build!(builder.with_config(AllowHttp, (url.scheme() == "http").to_string()))
        }
        _ => return Err(failed(&"expected s3://, gs://, az://, http:// or https://")),
    };
    Ok((store, path))
}

/// Values that no error may show; shorter ones are no secrets.
fn secrets(options: &BTreeMap<String, String>) -> Vec<String> {
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        let words = [
            "key",
            "secret",
            "token",
            "password",
            "sas",
            "credential",
            "proxy",
        ];
        words.iter().any(|word| name.contains(word))
    };
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let clouds = ["AWS_", "GOOGLE_", "AZURE_"];
        let is_cloud = clouds.iter().any(|cloud| name.starts_with(cloud));
        is_cloud.then_some((name, value))
    });
    (options.clone().into_iter())
        .chain(environment)
        .filter(|(name, value)| is_secret(name) && value.len() >= 8)
        .map(|(_, value)| value)
        .collect()
}

/// A message without secrets, in one line of a length that can be read.
fn redacted(mut text: String, secrets: &[String]) -> String {
    const LONGEST: usize = 600;
    for secret in secrets {
        text = text.replace(secret, "...");
    }
    text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
