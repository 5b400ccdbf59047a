//! The HTTP side of `export`: hands out the latest page, and cannot be held by those who ask.
//!
//! Input: listening sockets, pages as they are made. Output: answers. A request never starts a collection: whoever asks gets
//! the same bytes. Connections are bounded in number, size and time; beyond the number the oldest one goes, so that a new
//! client is heard while others hold what they have.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::negotiate;
use crate::collect::confine;
use crate::cores;
use crate::render::metrics::{OPENMETRICS, PROMETHEUS};

/// Connections of one listening socket at a time.
const CONNECTIONS: usize = 256;
/// Bytes and fields of a request's head.
const HEAD_BYTES: usize = 16 << 10;
const FIELDS: usize = 64;
/// How long a head may take, and a connection with all its requests.
const HEAD_TIME: Duration = Duration::from_secs(20);
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// After a failed accept, as when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What one collection made.
pub(super) struct Page {
    pub openmetrics: Bytes,
    pub prometheus: Bytes,
    pub findings: Bytes,
    /// Why the sockets could not be read.
    pub failure: Option<String>,
    /// A page older than this is stale.
    pub fresh_until: Instant,
}

/// The latest page, and where metrics are.
pub(super) struct Pages {
    latest: RwLock<Option<Arc<Page>>>,
    path: String,
}

impl Pages {
    pub(super) fn new(path: String) -> Arc<Pages> {
        Arc::new(Pages { latest: RwLock::new(None), path })
    }

    pub(super) fn publish(&self, page: Page) {
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(page));
    }

    fn latest(&self) -> Option<Arc<Page>> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves these sockets from a thread of their own, until the process ends.
///
/// # Errors
/// When the thread or its event loop cannot be made.
pub(super) fn serve(listeners: Vec<StdListener>, pages: &Arc<Pages>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut sockets = Vec::new();
    {
        let _inside = runtime.enter();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            sockets.push(TcpListener::from_std(listener)?);
        }
    }
    let pages = Arc::clone(pages);
    cores::start_detached(move || {
        // It has its sockets and takes pages from memory: it needs no file, no connection of its own, no right.
        confine::to_what_is_open();
        runtime.block_on(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for socket in sockets {
                tasks.spawn(accept(socket, Arc::clone(&pages)));
            }
            while tasks.join_next().await.is_some() {}
        });
    })?;
    Ok(())
}

/// Takes connections, for ever.
async fn accept(listener: TcpListener, pages: Arc<Pages>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // What it lacks may be what the oldest connection has.
            if let Some(oldest) = open.pop_front() {
                oldest.abort();
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if open.len() >= CONNECTIONS {
            open.retain(|task| !task.is_finished());
        }
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            // It ends before another one begins.
            tokio::task::yield_now().await;
        }
        open.push_back(tokio::spawn(connection(stream, Arc::clone(&pages))).abort_handle());
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), request.headers().get_all(ACCEPT).iter(), &pages);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES).max_headers(FIELDS);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    // Whatever goes wrong is the client's business.
    let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
}

/// The answer to a request; nothing here waits or reads.
fn answer<'a>(
    method: &Method,
    path: &str,
    accept: impl Iterator<Item = &'a HeaderValue>,
    pages: &Pages,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let page = pages.latest();
    let none = || respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "nothing has been collected yet\n");
    match path {
        _ if path == pages.path => {
            let Some(page) = page else { return none() };
            let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
            if negotiate::takes_openmetrics(&accept) {
                respond(StatusCode::OK, OPENMETRICS, page.openmetrics.clone())
            } else {
                respond(StatusCode::OK, PROMETHEUS, page.prometheus.clone())
            }
        }
        "/findings.json" => page.map_or_else(none, |page| respond(StatusCode::OK, JSON, page.findings.clone())),
        "/healthz" => {
            let Some(page) = page else { return none() };
            if let Some(failure) = &page.failure {
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{failure}\n"))
            } else if Instant::now() > page.fresh_until {
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the latest collection is too old\n")
            } else {
                respond(StatusCode::OK, TEXT, "ok\n")
            }
        }
        "/" => respond(StatusCode::OK, TEXT, format!("tcpstate\n{}\n/findings.json\n/healthz\n", pages.path)),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "there is nothing here; see /\n"),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
