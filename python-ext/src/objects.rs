//! Object stores: S3, Google Cloud Storage, Azure and HTTP servers, whose objects are fetched by key
//! and range.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error as ObjectError, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreScheme, RetryConfig,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use reqwest::header::HeaderValue;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::errors::{Error, Result, caught};
use crate::store::Stamp;
use crate::transport::{BUDGET, Connector, DOCUMENT, IsObject, NOT_PARTIAL, describe};

const UNSENDABLE: &str = "a credential cannot be sent: it has characters that headers do not allow, \
                          such as a line break at its end";

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
    /// `StoreError` if one cannot be fetched, or has more than 64 MiB, or all of them have more than
    /// 512 MiB: these are documents.
    fn get<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<String>,
    ) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
        caught(|| {
            const ALL: u64 = 512 << 20;
            let client = self.client(py)?;
            let fetched = AtomicU64::new(0);
            let get = async |key: &String| {
                let found = client.get(key, None, DOCUMENT).await?;
                let bytes = found.as_ref().map_or(0, |object| object.bytes.len() as u64);
                if fetched.fetch_add(bytes, Ordering::Relaxed) + bytes > ALL {
                    return Err(
                        client.failed(key, "this and what is read with it has more than 512 MiB")
                    );
                }
                Ok(found)
            };
            let found = wait(py, async {
                futures::future::try_join_all(keys.iter().map(get)).await
            })??;
            let bytes = |object: Option<Object>| Some(PyBytes::new(py, &object?.bytes));
            Ok(found.into_iter().map(bytes).collect())
        })
    }

    /// Names of the folders in the folder `path`, in order.
    ///
    /// `StoreError` if the store cannot list.
    fn folders(&self, py: Python<'_>, path: &str) -> PyResult<Vec<String>> {
        caught(|| {
            let client = self.client(py)?;
            Ok(wait(py, async { client.folders(path).await })??)
        })
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
    is_azure: bool,
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
        let connected = catch_unwind(AssertUnwindSafe(|| connect(url, &options, &retry)));
        let (store, prefix, is_azure) =
            connected.unwrap_or_else(|_| Err(Error::Value(format!("{url}: {UNSENDABLE}"))))?;
        Ok(Self {
            store,
            url: url.as_str().trim_end_matches('/').into(),
            prefix,
            retry,
            concurrency,
            slots: Semaphore::new(concurrency),
            is_azure,
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
        let result = self.within(attempts).await;
        match result.unwrap_or_else(|error| Err(Failure::Final(error))) {
            Ok(object) => Ok(Some(object)),
            Err(Failure::Absent) => Ok(None),
            Err(Failure::Unsupported(error) | Failure::Final(error) | Failure::Broken(error)) => {
                Err(self.failed(key, &error))
            }
        }
    }

    /// Wait no longer than the options say, and for no panic: `object_store` has some about values that
    /// headers cannot have.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        let within = self.retry.retry_timeout;
        let work = AssertUnwindSafe(work).catch_unwind();
        match timeout(within, work).await {
            Ok(result) => result.map_err(|_| UNSENDABLE.into()),
            Err(_) => Err(format!(
                "there was no complete answer within {} (storage option retry_timeout)",
                humantime::format_duration(within)
            )),
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
                // Azure has no ranges that count from the end. (No HEAD here: some servers answer one
                // with a body, which would be taken for the beginning of the next answer.)
                Err(Failure::Unsupported(_))
                    if let Some(GetRange::Suffix(length)) = range
                        && self.is_azure =>
                {
                    match self
                        .attempt(path, Some(GetRange::Bounded(0..1)), limit)
                        .await
                    {
                        Ok(Object { size, .. }) => {
                            range = Some(GetRange::Bounded(size.saturating_sub(length)..size));
                        }
                        Err(Failure::Unsupported(_)) => {
                            self.ignores_ranges.store(true, Ordering::Relaxed);
                        }
                        Err(failure) => return Err(failure),
                    }
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
        const AT_FIRST: u64 = 64 << 20;
        let mut options = GetOptions {
            range,
            ..GetOptions::default()
        };
        options.extensions.insert(IsObject);
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
        let cannot = |_| Failure::Final(format!("cannot allocate {expected} bytes for it"));
        let mut bytes = Vec::new();
        // Servers may announce more than they send.
        (bytes.try_reserve_exact(expected.min(AT_FIRST) as usize)).map_err(cannot)?;
        let mut body = response.into_stream();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Failure::Broken(describe(&error, "it broke off")))?;
            if (bytes.len() + part.len()) as u64 > expected {
                return Err(Failure::Broken(format!(
                    "the response went on: expected {expected} bytes"
                )));
            }
            bytes.try_reserve(part.len()).map_err(cannot)?;
            bytes.extend_from_slice(&part);
        }
        if bytes.len() as u64 != expected {
            return Err(Failure::Broken(format!(
                "the response broke off: expected {expected} bytes, got {}",
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
        let list = BUDGET.scope(AtomicU64::new(DOCUMENT), list);
        let listed = self.within(list).await.and_then(|listed| {
            listed.map_err(|error| describe(&error, "the answer is no listing"))
        });
        let listed = listed.map_err(|error| {
            let error = format!(
                "cannot list what is there; consolidate the metadata, or open arrays by their own \
                 URLs: {error}"
            );
            self.failed(folder, &error)
        })?;
        let names = listed.common_prefixes.iter();
        let names = names.filter_map(|prefix| prefix.filename().map(String::from));
        Ok(names.collect())
    }

    fn path(&self, key: &str) -> Result<Path> {
        let path = format!("{}/{key}", self.prefix);
        let error = "a path in an object store has no empty parts, no '.' and no '..'";
        Path::parse(path.trim_matches('/')).map_err(|_| self.failed(key, error))
    }

    /// The text is of our own, or [`describe`]d: it holds no secrets.
    fn failed(&self, key: &str, error: &str) -> Error {
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
    let text = describe(
        error,
        "the server's answer, or a credential, cannot be used",
    );
    // The codes with which S3 and Google, and Azure, say that there is nothing to look in.
    let no_bucket = ["NoSuchBucket", "ContainerNotFound"];
    match error {
        ObjectError::NotFound { .. } if !no_bucket.iter().any(|code| text.contains(code)) => {
            Failure::Absent
        }
        ObjectError::NotSupported { .. } => Failure::Unsupported(text),
        _ if text.starts_with(NOT_PARTIAL) => Failure::Unsupported(text),
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
    // `abfs://container@account.dfs.core.windows.net`
    let names_container = matches!(url.scheme(), "az" | "abfs" | "abfss");
    if url.password().is_some() || (!names_container && !url.username().is_empty()) {
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

/// The store of a URL, the path within it, and whether it is Azure's.
fn connect(
    url: &Url,
    options: &BTreeMap<String, String>,
    retry: &RetryConfig,
) -> Result<(Arc<dyn ObjectStore>, Path, bool)> {
    let failed = |error: &str| Error::Value(format!("{url}: {error}"));
    let expected = "expected s3://, gs://, az://, http:// or https://, and a path";
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|_| failed(expected))?;
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
                if key.eq_ignore_ascii_case("user_agent") && HeaderValue::from_str(value).is_err() {
                    return Err(failed(
                        "storage option user_agent: expected what a header can hold",
                    ));
                }
                builder = builder.with_config(parsed, value);
            }
            let built = builder.with_http_connector(Connector).build();
            Arc::new(built.map_err(|error| failed(&unusable(&error, options)))?)
                as Arc<dyn ObjectStore>
        }};
    }
    let is_azure = scheme == ObjectStoreScheme::MicrosoftAzure;
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
        _ => return Err(failed(expected)),
    };
    Ok((store, path, is_azure))
}

/// Why no store can be made with these options.
fn unusable(error: &ObjectError, options: &BTreeMap<String, String>) -> String {
    let text = error.to_string();
    let unparsed = options.iter().filter(|(_, value)| {
        text.contains(&format!("Config error: failed to parse \"{value}\" as "))
    });
    let names: Vec<_> = unparsed.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        let otherwise = "a storage option, or a variable of the environment, cannot be used";
        return describe(error, otherwise);
    }
    let names = names.join(" or ");
    format!("storage option {names}: it has a value that cannot be parsed")
}
