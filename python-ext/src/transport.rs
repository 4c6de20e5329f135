//! The HTTP client below `object_store`, with what that leaves open: credentials stay with the server
//! that they are for, documents are bounded, and what errors say is told in words of our own.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey as Key, ClientOptions, Error as ObjectError};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;
use reqwest::{Client, Method, NoProxy, Proxy};
use url::Url;

/// Redirects that one request follows.
const REDIRECTS: usize = 10;
/// Bytes of a document (a listing, a token) that is read whole, and of all documents of one listing.
pub const DOCUMENT: u64 = 64 << 20;
/// Bytes of a failed answer that are looked at.
const REFUSAL: u64 = 64 << 10;
/// Headers of requests that hold no credentials; all others stay with the server they are for.
const HARMLESS: [&str; 12] = [
    "accept",
    "content-length",
    "content-type",
    "depth",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
    "user-agent",
    "x-ms-date",
    "x-ms-version",
];

tokio::task_local! {
    /// Bytes of documents that the listing under way may still have.
    pub static BUDGET: AtomicU64;
}

/// Marks requests for objects, which are read in parts and bounded by who reads them.
#[derive(Clone, Copy, Debug)]
pub struct IsObject;

/// Connects `object_store` to servers.
#[derive(Debug)]
pub struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(options).map_err(|text| ObjectError::Generic {
            store: "HTTP client",
            source: Box::new(Told(text)),
        })?;
        Ok(HttpClient::new(Transport(client)))
    }
}

#[derive(Debug)]
struct Transport(Client);

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        for _ in 0..=REDIRECTS {
            let is_object = request.extensions().get::<IsObject>().is_some();
            let answer = HttpService::call(&self.0, request.clone())
                .await
                .map_err(|error| retried(&request, error))?;
            let code = answer.status().as_u16();
            let location = answer.headers().get(LOCATION);
            let Some(location) = location.filter(|_| matches!(code, 301..=303 | 307 | 308)) else {
                return match (answer.status().is_success(), is_object) {
                    (true, true) => Ok(answer),
                    (true, false) => document(answer).await,
                    (false, _) => Ok(refusal(answer).await),
                };
            };
            let from = Url::parse(&request.uri().to_string());
            let from = from.map_err(|_| told("the URL of the request cannot be used"))?;
            let target = location.to_str().ok().and_then(|to| from.join(to).ok());
            let target = target
                .ok_or_else(|| told(format!("{} redirects to what is no URL", origin(&from))))?;
            request = redirected(request, &from, target).map_err(told)?;
        }
        Err(told(format!(
            "the server redirects more than {REDIRECTS} times"
        )))
    }
}

/// The request that follows a redirect; the text says why there is none.
fn redirected(mut request: HttpRequest, from: &Url, mut to: Url) -> Result<HttpRequest, String> {
    // A server may name a host after what it was sent.
    let words = request.headers().values().map(HeaderValue::as_bytes);
    let words = words.chain(from.query().map(str::as_bytes));
    let mut words =
        words.flat_map(|text| text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-'));
    let host = to
        .host_str()
        .unwrap_or_default()
        .replace('-', "")
        .to_ascii_lowercase();
    let is_told = words.any(|word| {
        let word = String::from_utf8_lossy(word)
            .replace('-', "")
            .to_ascii_lowercase();
        word.len() >= 8 && host.contains(&word)
    });
    let target = if is_told {
        "a host named after what was sent".into()
    } else {
        origin(&to)
    };
    let place = format!("{} redirects to {target}", origin(from));
    let is_read = matches!(request.method().as_str(), "GET" | "HEAD" | "PROPFIND");
    if !is_read || !request.body().is_empty() {
        return Err(format!(
            "{place}, and a request with credentials in it is not sent on"
        ));
    }
    if !matches!(to.scheme(), "http" | "https") {
        return Err(format!("{place}; expected http:// or https://"));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!(
            "{place}, without encryption; open a URL (or set the storage option endpoint) that \
             starts with http:// if that is meant"
        ));
    }
    if from.origin() != to.origin() {
        let has_credentials = from.query().is_some() || has_userinfo(from);
        if has_credentials || request.headers().keys().any(is_private) {
            return Err(format!(
                "{place}, and credentials are not sent to another server: name that one in the URL \
                 or the storage option endpoint if they are for it, or set skip_signature=\"true\" \
                 where none are needed"
            ));
        }
        let kept = request.headers().iter();
        let kept = kept.filter(|(name, _)| !is_private(name));
        *request.headers_mut() = kept
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<HeaderMap>();
    }
    // They would be sent as credentials, and are not ours.
    let _ = to.set_username("").and_then(|()| to.set_password(None));
    to.set_fragment(None);
    *request.uri_mut() = (to.as_str().parse()).map_err(|_| format!("{place}: it is no URL"))?;
    Ok(request)
}

fn is_private(name: &reqwest::header::HeaderName) -> bool {
    !HARMLESS.contains(&name.as_str())
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Scheme, host and port: what may be shown of any URL.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An error that ends a request for good, or is tried again if nothing was changed by it.
fn retried(request: &HttpRequest, error: HttpError) -> HttpError {
    let source: Option<&reqwest::Error> = error.source().and_then(|e| e.downcast_ref());
    let is_ours = source.is_some_and(reqwest::Error::is_builder);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    // `object_store` knows some ways in which connections break, not all.
    if error.kind() == HttpErrorKind::Unknown && is_read && !is_ours {
        return HttpError::new(HttpErrorKind::Interrupted, error);
    }
    error
}

/// An answer that is read whole, if it is not too large.
async fn document(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = answer.into_parts();
    let left = BUDGET.try_with(|budget| budget.load(Ordering::Relaxed));
    let limit = left.unwrap_or(DOCUMENT);
    let (bytes, is_whole) = read(body, limit).await?;
    if !is_whole {
        return Err(told(format!(
            "the server's answer has more than {DOCUMENT} bytes, the most that is read of a listing"
        )));
    }
    let _ = BUDGET.try_with(|budget| budget.fetch_sub(bytes.len() as u64, Ordering::Relaxed));
    Ok(HttpResponse::from_parts(parts, bytes.into()))
}

/// An answer that refuses, with nothing in its body but a code that everybody knows: servers repeat
/// headers and keys in what they say.
async fn refusal(answer: HttpResponse) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let text = match read(body, REFUSAL).await {
        Ok((bytes, _)) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    };
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let code = words.find_map(|word| CODES.iter().find(|&&code| code == word));
    let said = code.map_or_else(Vec::new, |code| code.as_bytes().to_vec());
    HttpResponse::from_parts(parts, said.into())
}

/// Up to `limit` bytes of a body, and whether that is all of it.
async fn read(body: HttpResponseBody, limit: u64) -> Result<(Vec<u8>, bool), HttpError> {
    let mut bytes = Vec::new();
    let mut parts = body.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part?;
        let room = (limit as usize).saturating_sub(bytes.len());
        bytes.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// A client as `object_store` would make it, but for redirects.
fn client(options: &ClientOptions) -> Result<Client, String> {
    let set = |key| options.get_config_value(&key);
    let flag = |key: Key| match set(key).map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("0" | "false" | "off" | "no" | "n") => Ok(false),
        Some("1" | "true" | "on" | "yes" | "y") => Ok(true),
        Some(text) => Err(unparsed(key, text, "boolean")),
    };
    let duration = |key: Key| -> Result<Option<Duration>, String> {
        let parse = |text: String| {
            humantime::parse_duration(&text).map_err(|_| unparsed(key, &text, "Duration"))
        };
        set(key).map(parse).transpose()
    };
    let mut builder = Client::builder()
        .redirect(Policy::none())
        // These would change lengths, and what a few bytes become has no bound.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .https_only(!flag(Key::AllowHttp)?)
        .danger_accept_invalid_certs(flag(Key::AllowInvalidCertificates)?)
        .user_agent(
            set(Key::UserAgent)
                .unwrap_or_else(|| concat!("tempozarr/", env!("CARGO_PKG_VERSION")).to_owned()),
        );
    if let Some(proxy) = set(Key::ProxyUrl) {
        let cannot = |key: Key| format!("storage option {}: it cannot be used", key.as_ref());
        let mut proxy = Proxy::all(proxy).map_err(|_| cannot(Key::ProxyUrl))?;
        if let Some(certificate) = set(Key::ProxyCaCertificate) {
            let certificate = Certificate::from_pem(certificate.as_bytes());
            let certificate = certificate.map_err(|_| cannot(Key::ProxyCaCertificate))?;
            builder = builder.tls_certs_merge([certificate]);
        }
        if let Some(hosts) = set(Key::ProxyExcludes) {
            proxy = proxy.no_proxy(NoProxy::from_string(&hosts));
        }
        builder = builder.proxy(proxy);
    }
    if flag(Key::NoSystemCertificates)? {
        builder = builder.tls_certs_only([]);
    }
    if let Some(time) = duration(Key::Timeout)? {
        builder = builder.timeout(time);
    }
    if let Some(time) = duration(Key::ConnectTimeout)? {
        builder = builder.connect_timeout(time);
    }
    if let Some(time) = duration(Key::ReadTimeout)? {
        builder = builder.read_timeout(time);
    }
    if let Some(time) = duration(Key::PoolIdleTimeout)? {
        builder = builder.pool_idle_timeout(time);
    }
    if let Some(most) = number(Key::PoolMaxIdlePerHost, &set)? {
        builder = builder.pool_max_idle_per_host(most);
    }
    if let Some(time) = duration(Key::Http2KeepAliveInterval)? {
        builder = builder.http2_keep_alive_interval(time);
    }
    if let Some(time) = duration(Key::Http2KeepAliveTimeout)? {
        builder = builder.http2_keep_alive_timeout(time);
    }
    builder = builder.http2_keep_alive_while_idle(flag(Key::Http2KeepAliveWhileIdle)?);
    if let Some(bytes) = number::<u32>(Key::Http2MaxFrameSize, &set)? {
        builder = builder.http2_max_frame_size(bytes);
    }
    if flag(Key::Http1Only)? {
        builder = builder.http1_only();
    }
    if flag(Key::Http2Only)? {
        builder = builder.http2_prior_knowledge();
    }
    if flag(Key::RandomizeAddresses)? {
        builder = builder.dns_resolver(Shuffled);
    }
    let built = builder.build();
    built.map_err(|error| format!("cannot make an HTTP client: {}", cause(&error)))
}

fn number<T: FromStr>(key: Key, set: &impl Fn(Key) -> Option<String>) -> Result<Option<T>, String> {
    let parse = |text: String| text.parse().map_err(|_| unparsed(key, &text, "integer"));
    set(key).map(parse).transpose()
}

fn unparsed(key: Key, text: &str, kind: &str) -> String {
    let name = key.as_ref();
    let text: String = text.chars().take(40).collect();
    format!("storage option {name}: failed to parse {text:?} as {kind}")
}

/// Finds the addresses of a host, in random order: that spreads requests over servers.
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (mut found, order) = (found.collect::<Vec<_>>(), RandomState::new());
            found.sort_by_cached_key(|address| order.hash_one(address));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An error in words of our own, without secrets.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Told {}

fn told(text: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Told(text.into()))
}

/// What an error of `object_store` says, in words that hold nothing of options, headers, files or
/// answers: these words are ours, or constants of `object_store`, or codes that everybody knows.
pub fn describe(error: &(dyn StdError + 'static), otherwise: &str) -> String {
    let text = error.to_string();
    let phrase = PHRASES.iter().find(|&&phrase| text.contains(phrase));
    let refused = "Server returned non-2xx status code: ";
    let mut said = told_by(error).or_else(|| {
        // What follows is the status, and the body that `refusal` left.
        let status = text.rsplit_once(refused)?.1.trim();
        let status = status.trim_end_matches(':');
        Some(format!("the server answered {status}"))
    });
    if let (Some(phrase), Some(more)) = (phrase, said.as_mut()) {
        *more = format!("{phrase}: {more}");
    }
    let said = said.or_else(|| phrase.map(|&phrase| phrase.to_owned()));
    let tries = text.rsplit_once(", after ").and_then(|(_, rest)| {
        let tries: usize = rest.split_once(" retries")?.0.parse().ok()?;
        Some(format!(" (after {tries} retries)"))
    });
    said.unwrap_or_else(|| otherwise.to_owned()) + &tries.unwrap_or_default()
}

/// What the HTTP client said in an error, if it did.
fn told_by(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Told(text)) = error.downcast_ref() {
            return Some(text.clone());
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return Some(cause(error));
        }
        next = error.source();
    }
    None
}

/// Why a request failed.
fn cause(error: &reqwest::Error) -> String {
    let what = match () {
        () if error.is_connect() => "error while connecting",
        () if error.is_timeout() => "error: it took longer than the storage option timeout",
        () if error.is_body() || error.is_decode() => "error while reading the answer",
        () if error.is_builder() => "error in the request",
        () => "error while sending the request",
    };
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            return match inner {
                Some::<&rustls::Error>(inner) => format!("{what}: {inner}"),
                None => match error.kind().to_string().as_str() {
                    "other error" | "uncategorized error" => what.into(),
                    kind => format!("{what}: {kind}"),
                },
            };
        }
        next = error.source();
    }
    what.into()
}

/// Codes with which stores say why they refuse.
const CODES: [&str; 62] = [
    // S3, and what speaks its protocol; Google's XML
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "BadRequest",
    "ExpiredToken",
    "IllegalLocationConstraintException",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidArgument",
    "InvalidBucketName",
    "InvalidLocationConstraint",
    "InvalidObjectState",
    "InvalidRange",
    "InvalidRequest",
    "InvalidSecurity",
    "InvalidToken",
    "InvalidURI",
    "KeyTooLongError",
    "MethodNotAllowed",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "NoSuchVersion",
    "NotImplemented",
    "NotSignedUp",
    "PermanentRedirect",
    "PreconditionFailed",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "TemporaryRedirect",
    "TokenRefreshRequired",
    "UnauthorizedAccess",
    "UserProjectMissing",
    "XAmzContentSHA256Mismatch",
    // Azure
    "AccountIsDisabled",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "BlobNotFound",
    "ContainerNotFound",
    "FilesystemNotFound",
    "InsufficientAccountPermissions",
    "InvalidAuthenticationInfo",
    "InvalidQueryParameterValue",
    "NoAuthenticationInformation",
    "OperationTimedOut",
    "OutOfRangeInput",
    "PathNotFound",
    "PublicAccessNotPermitted",
    "ResourceNotFound",
    "ServerBusy",
    // OAuth
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
];

/// What `object_store` says of an answer to a request for a range that is the whole object.
pub const NOT_PARTIAL: &str = "Received non-partial response when range requested";

/// What `object_store` says without anything from elsewhere.
const PHRASES: [&str; 47] = [
    "Account must be specified",
    "'az account get-access-token' command failed",
    "Container name must be specified",
    "Content-Length Header missing from response",
    "Content-Range header contained non UTF-8 characters",
    "Content-Range header not present in partial response",
    "ETag Header missing from response",
    "Error decoding PROPFIND response",
    "Error getting CreateSession response",
    "Error getting list response body",
    "Error getting token response body",
    "Error parsing Path",
    "Error performing CreateSession request",
    "Error performing list request",
    "Error performing token request",
    "Error reading federated token file",
    "Error reading pem file",
    "Failed parsing an SAS key",
    "Failed to parse azure cli response",
    "Failed to parse value for CONTENT_RANGE header",
    "Failed to read EKS token file",
    "Failed to read token file",
    "Got invalid list response",
    "Invalid Access Key",
    "Invalid AssumeRoleWithWebIdentity response",
    "Invalid RSA key",
    "Invalid Zone suffix for bucket",
    "Invalid content length",
    "Invalid encryption header values",
    "Invalid encryption key",
    "Invalid encryption type",
    "Invalid last modified",
    "Last-Modified Header missing from response",
    "Missing AccessKeyId",
    "Missing SecretAccessKey",
    "Missing bucket name",
    "Missing component in SAS query pair",
    "Missing content size",
    "No RSA key found in pem file",
    "One of service account path or service account key may be provided",
    "Received header containing non-ASCII data",
    NOT_PARTIAL,
    "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
    "URL did not match any known pattern for scheme",
    "Unable to decode service account file",
    "Unable to open service account file",
    "contained empty path segment",
];
