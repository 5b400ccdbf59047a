//! What to set in which program: the table.
//!
//! Comes in: nothing. Goes out: one row per program and topic, the more specific before the general. Never here: how a
//! program is recognised (see [`super`]).

use super::Program;
use crate::diagnose::finding::Topic;

/// Every row, each with its source.
#[rustfmt::skip]
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Add `keepalive N;` to the `upstream` block; before 1.29.7 also set `proxy_http_version 1.1;` and \
            `proxy_set_header Connection \"\";` (from 1.29.7 keep-alive to upstreams is the default, 32 per \
            worker)",
        source: "nginx docs: ngx_http_upstream_module, keepalive; ngx_http_proxy_module, proxy_http_version; \
            CHANGES 1.29.7",
    },
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitServer,
        advice: "Raise `keepalive_timeout` above the load balancer's idle limit and `keepalive_requests` (1000 by \
            default) so that nginx does not close first",
        source: "nginx docs: ngx_http_core_module, keepalive_timeout, keepalive_requests",
    },
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Keep upstream `keepalive_timeout` (60s) below the backend's idle timeout; set \
            `proxy_read_timeout` and `send_timeout` so that a stuck request ends",
        source: "nginx docs: ngx_http_upstream_module, keepalive_timeout; ngx_http_proxy_module, proxy_read_timeout",
    },
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `backlog=` of `listen` (511 on Linux) with net.core.somaxconn, and add `reuseport`; check \
            `worker_connections` and `worker_rlimit_nofile`; a reload applies a changed backlog, a changed \
            somaxconn alone needs a restart",
        source: "nginx docs: ngx_http_core_module, listen",
    },
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::PortExhaustion,
        advice: "Add upstream keep-alive first; then spread over several source addresses with `proxy_bind` and a \
            `split_clients` variable, or over more backend addresses (nginx sets IP_BIND_ADDRESS_NO_PORT itself)",
        source: "nginx docs: ngx_http_proxy_module, proxy_bind; ngx_http_split_clients_module",
    },
    Program {
        name: "nginx",
        comms: &["nginx"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "Set `so_keepalive=on` (or idle:intvl:cnt) on `listen` for clients and `proxy_socket_keepalive \
            on;` for upstreams",
        source: "nginx docs: ngx_http_core_module, listen; ngx_http_proxy_module, proxy_socket_keepalive",
    },
    Program {
        name: "haproxy",
        comms: &["haproxy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Use `http-reuse safe` or `aggressive`, remove `option httpclose` and `option http-server-close`; \
            size the idle pool with server options `pool-max-conn` and `pool-purge-delay` (5s)",
        source: "HAProxy Configuration Manual: http-reuse; 5.2 server options pool-max-conn, pool-purge-delay",
    },
    Program {
        name: "haproxy",
        comms: &["haproxy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::PortExhaustion,
        advice: "Add source addresses with one `source` address per `server` line, or `source IP:low-high` port \
            ranges; more server addresses multiply the tuples",
        source: "HAProxy Configuration Manual: source",
    },
    Program {
        name: "haproxy",
        comms: &["haproxy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Set `timeout client-fin` and `timeout server-fin` (a few seconds) so that half-closed \
            connections do not wait for the long timeouts; set `timeout tunnel` for upgraded ones",
        source: "HAProxy Configuration Manual: timeout client-fin, timeout server-fin, timeout tunnel",
    },
    Program {
        name: "haproxy",
        comms: &["haproxy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `backlog` of the frontend together with `maxconn` (global and frontend): past maxconn \
            HAProxy stops accepting on purpose",
        source: "HAProxy Configuration Manual: backlog, maxconn",
    },
    Program {
        name: "envoy",
        comms: &["envoy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Leave `max_requests_per_connection` unset and raise the upstream `idle_timeout` (1h default) in \
            `common_http_protocol_options` of the cluster; prefer HTTP/2 upstreams",
        source: "Envoy docs: HttpProtocolOptions; FAQ: How do I configure timeouts?",
    },
    Program {
        name: "envoy",
        comms: &["envoy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "For `tcp_proxy` lower `idle_timeout` (1h default): half-closed connections stay until it fires; \
            keep upstream HTTP `idle_timeout` below the backend's",
        source: "Envoy docs: TcpProxy idle_timeout; FAQ: How do I configure timeouts?; envoyproxy/envoy issue 41086",
    },
    Program {
        name: "envoy",
        comms: &["envoy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Set listener `tcp_backlog_size` (Linux default: net.core.somaxconn at start); keep \
            `enable_reuse_port` and look for one busy worker; consider `connection_balance_config`",
        source: "Envoy docs: Listener tcp_backlog_size, enable_reuse_port, connection_balance_config",
    },
    Program {
        name: "apache",
        comms: &["httpd", "apache2"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitServer,
        advice: "Set `KeepAlive On`, `KeepAliveTimeout` above the load balancer's idle limit, and raise \
            `MaxKeepAliveRequests` (100; 0 is unlimited)",
        source: "Apache HTTP Server docs: core, KeepAlive, KeepAliveTimeout, MaxKeepAliveRequests",
    },
    Program {
        name: "apache",
        comms: &["httpd", "apache2"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "In `ProxyPass` give the backend its own worker with `enablereuse=on`, drop `disablereuse=on` and \
            `SetEnv proxy-nokeepalive`; RewriteRule [P] to unnamed backends never pools",
        source: "Apache HTTP Server docs: mod_proxy, ProxyPass parameters",
    },
    Program {
        name: "apache",
        comms: &["httpd", "apache2"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Set `ttl=` of the ProxyPass worker below the backend's keep-alive timeout (worker and event \
            MPM), and `connectiontimeout=`/`timeout=`",
        source: "Apache HTTP Server docs: mod_proxy, ProxyPass parameters ttl, timeout",
    },
    Program {
        name: "apache",
        comms: &["httpd", "apache2"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `MaxRequestWorkers` (with `ServerLimit`) first, then `ListenBackLog` (511) with \
            net.core.somaxconn; use the event MPM; restart",
        source: "Apache HTTP Server docs: mpm_common, ListenBackLog, MaxRequestWorkers",
    },
    Program {
        name: "httpclient 4",
        comms: &["java"],
        words: &["httpclient-4"],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Close every CloseableHttpResponse (try-with-resources, EntityUtils.consume); build with \
            `evictExpiredConnections()` and `evictIdleConnections(t)` below the server's keep-alive; keep \
            `setValidateAfterInactivity`",
        source: "Apache HttpClient 4.5 tutorial: 2.5 connection eviction policy; HttpClientBuilder javadoc",
    },
    Program {
        name: "httpclient 4",
        comms: &["java"],
        words: &["httpclient-4"],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Share one CloseableHttpClient and raise PoolingHttpClientConnectionManager \
            `setDefaultMaxPerRoute` (2) and `setMaxTotal` (20)",
        source: "Apache HttpClient 4.5 tutorial: 2.3 connection managers",
    },
    Program {
        name: "httpclient 5",
        comms: &["java"],
        words: &["httpclient5"],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Use `execute(request, responseHandler)` so that responses are always released; set \
            `ConnectionConfig.setTimeToLive` and `setValidateAfterInactivity`; `evictIdleConnections(TimeValue)` \
            on the builder",
        source: "Apache HttpClient 5 javadoc: ConnectionConfig, HttpClientBuilder",
    },
    Program {
        name: "httpclient 5",
        comms: &["java"],
        words: &["httpclient5"],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Share one client; on PoolingHttpClientConnectionManagerBuilder set `setMaxConnPerRoute` (5) and \
            `setMaxConnTotal` (25) to the real concurrency",
        source: "Apache HttpClient 5 javadoc: PoolingHttpClientConnectionManagerBuilder",
    },
    Program {
        name: "okhttp",
        comms: &["java"],
        words: &["okhttp"],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Close every Response or its body (`use {}` or try-with-resources), failures too; set the \
            keep-alive of `ConnectionPool` (5 min) below the server's idle timeout",
        source: "OkHttp docs: Response, ConnectionPool",
    },
    Program {
        name: "okhttp",
        comms: &["java"],
        words: &["okhttp"],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Share one OkHttpClient (derive with newBuilder()); size `ConnectionPool(maxIdleConnections, \
            ...)` (5) to the concurrency per host",
        source: "OkHttp docs: OkHttpClient, ConnectionPool",
    },
    Program {
        name: "java",
        comms: &["java"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "HttpURLConnection: read getInputStream and getErrorStream to the end and close them; \
            java.net.http: consume the body, share one HttpClient, set `-Djdk.httpclient.keepalive.timeout` \
            (seconds) below the server's idle limit",
        source: "Java SE docs: module java.net.http system properties; Networking Properties (http.keepAlive)",
    },
    Program {
        name: "java",
        comms: &["java"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Keep `http.keepAlive=true` and raise `http.maxConnections` (5 per destination); do not call \
            disconnect() after each request",
        source: "Java SE docs: Networking Properties, http.keepAlive, http.maxConnections",
    },
    Program {
        name: "hikaricp",
        comms: &["java"],
        words: &["HikariCP"],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Set `maxLifetime` some seconds below the database's or proxy's idle limit (MySQL wait_timeout); \
            use `keepaliveTime` and `leakDetectionThreshold`; close Connections by try-with-resources",
        source: "HikariCP README: maxLifetime, keepaliveTime, leakDetectionThreshold",
    },
    Program {
        name: "tomcat",
        comms: &["java"],
        words: &["catalina", "tomcat-embed"],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise Connector `maxThreads` (200) and find the blocked ones by thread dump; `maxConnections` \
            (8192 for NIO); then `acceptCount` (100) with net.core.somaxconn; Spring Boot: \
            server.tomcat.accept-count",
        source: "Apache Tomcat docs: HTTP Connector, acceptCount, maxConnections, maxThreads",
    },
    Program {
        name: "tomcat",
        comms: &["java"],
        words: &["catalina", "tomcat-embed"],
        peer_ports: &[],
        topic: Topic::TimeWaitServer,
        advice: "Raise Connector `keepAliveTimeout` above the proxy's idle limit and `maxKeepAliveRequests` (100; \
            -1 is unlimited)",
        source: "Apache Tomcat docs: HTTP Connector, keepAliveTimeout, maxKeepAliveRequests",
    },
    Program {
        name: "tomcat",
        comms: &["java"],
        words: &["catalina", "tomcat-embed"],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Find threads that block on a backend without a read timeout (jstack); set `connectionTimeout` \
            (20 s as shipped) and asyncTimeout; close streams and async contexts on error",
        source: "Apache Tomcat docs: HTTP Connector, connectionTimeout, asyncTimeout",
    },
    Program {
        name: "go net/http",
        comms: &["go:"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Client: `defer resp.Body.Close()` after every successful call. Server: set \
            ReadTimeout/ReadHeaderTimeout, WriteTimeout and IdleTimeout on http.Server and stop handlers on \
            r.Context().Done()",
        source: "Go package documentation: net/http Client, Response, Server",
    },
    Program {
        name: "go net/http",
        comms: &["go:"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Read the body to EOF (io.Copy to io.Discard) before Close, share one http.Client, and raise \
            Transport.MaxIdleConnsPerHost (2) and MaxIdleConns (100 in DefaultTransport) to the concurrency",
        source: "Go package documentation: net/http Transport, DefaultMaxIdleConnsPerHost",
    },
    Program {
        name: "go net/http",
        comms: &["go:"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "net.Dialer and ListenConfig probe every 15 s by default; set KeepAliveConfig (Go 1.23) or \
            KeepAlive; a negative value switches it off, so look for that",
        source: "Go package documentation: net Dialer, ListenConfig, KeepAliveConfig",
    },
    Program {
        name: "go net/http",
        comms: &["go:"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "net.Listen takes its backlog from net.core.somaxconn at the time of the call: raise the sysctl \
            and restart; look for an accept loop that blocks (a limit such as netutil.LimitListener)",
        source: "Go source: net/sock_linux.go maxListenerBacklog; x/net/netutil LimitListener",
    },
    Program {
        name: "node",
        comms: &["node", "node-MainThread", "MainThread"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Pass a shared `new http.Agent({ keepAlive: true, maxSockets })` to every client (global default \
            only from Node 19); read or resume() each response",
        source: "Node.js docs: http, Class http.Agent",
    },
    Program {
        name: "node",
        comms: &["node", "node-MainThread", "MainThread"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Consume or destroy every response; set Agent `timeout` or agentkeepalive `freeSocketTimeout` \
            below the server's keep-alive timeout; do not use allowHalfOpen without end()",
        source: "Node.js docs: http.Agent, net.Socket allowHalfOpen; agentkeepalive README",
    },
    Program {
        name: "node fetch",
        comms: &["node", "node-MainThread", "MainThread"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Consume or cancel every body (`await res.body.cancel()`); set Agent `keepAliveTimeout` (4 s) \
            below the server's; `setGlobalDispatcher(new Agent({...}))`",
        source: "undici docs: Client options, Agent; fetch garbage collection note",
    },
    Program {
        name: "node server",
        comms: &["node", "node-MainThread", "MainThread"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitServer,
        advice: "Set `server.keepAliveTimeout` (5 s) above the load balancer's idle limit, and \
            `server.headersTimeout` above that",
        source: "Node.js docs: http, server.keepAliveTimeout, server.headersTimeout",
    },
    Program {
        name: "node server",
        comms: &["node", "node-MainThread", "MainThread"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Unblock the event loop (no synchronous work in handlers) or use cluster; then `server.listen({ \
            port, backlog })` (511) with net.core.somaxconn",
        source: "Node.js docs: net, server.listen",
    },
    Program {
        name: "python with requests",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Use `with requests.Session() as s:` and `with s.get(..., stream=True) as r:`; read or close \
            every streamed response; always pass timeout=",
        source: "Requests docs: Advanced Usage, Session Objects, Body Content Workflow",
    },
    Program {
        name: "python with requests",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Use one Session instead of requests.get(); mount `HTTPAdapter(pool_connections=, pool_maxsize=)` \
            (10 each) at the concurrency",
        source: "Requests docs: Advanced Usage, Keep-Alive; API, HTTPAdapter",
    },
    Program {
        name: "python with aiohttp",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "Use `async with session.get(...) as r:`; close the ClientSession at shutdown; set TCPConnector \
            `keepalive_timeout` (15 s) below the server's idle limit",
        source: "aiohttp docs: Client Reference, TCPConnector; Advanced client usage, Graceful shutdown",
    },
    Program {
        name: "python with aiohttp",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Create one ClientSession per application, not per request; no `force_close=True`; set \
            TCPConnector `limit` (100) and `limit_per_host`",
        source: "aiohttp docs: Client Quickstart; Client Reference, TCPConnector",
    },
    Program {
        name: "python with urllib3",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "With preload_content=False call `drain_conn()` or `release_conn()`, or close the response; use \
            PoolManager as a context manager",
        source: "urllib3 docs: Advanced Usage, Streaming and I/O; HTTPResponse",
    },
    Program {
        name: "python with urllib3",
        comms: &["python*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Share one PoolManager; set `maxsize` (1) to the number of threads and `block=True`: connections \
            beyond maxsize are closed (\"Connection pool is full, discarding connection\")",
        source: "urllib3 docs: Advanced Usage, Customizing Pool Behavior",
    },
    Program {
        name: "gunicorn",
        comms: &["gunicorn*"],
        words: &["gunicorn"],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `--workers`/`--threads` or use an async worker class; set `--timeout`; then `--backlog` \
            (2048) with net.core.somaxconn",
        source: "Gunicorn docs: Settings, backlog, workers, threads, worker_class",
    },
    Program {
        name: "gunicorn",
        comms: &["gunicorn*"],
        words: &["gunicorn"],
        peer_ports: &[],
        topic: Topic::TimeWaitServer,
        advice: "Sync workers close after each response: use gthread, gevent or another async class with \
            `--keep-alive` (2 s) above the proxy's idle limit",
        source: "Gunicorn docs: Settings, keepalive",
    },
    Program {
        name: "uwsgi",
        comms: &["uwsgi"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `processes`/`threads` (or cheaper), set `harakiri`; then `listen` (100) with \
            net.core.somaxconn, which must be at least as large or uWSGI does not start",
        source: "uWSGI docs: Options, listen, harakiri; Things to know",
    },
    Program {
        name: "php-fpm",
        comms: &["php-fpm*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `pm.max_children` to what memory allows, find slow scripts with `request_slowlog_timeout`, \
            end them with `request_terminate_timeout`; then `listen.backlog` (511) with net.core.somaxconn",
        source: "PHP manual: FastCGI Process Manager, Configuration",
    },
    Program {
        name: "php-fpm",
        comms: &["php-fpm*"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Between web server and FPM on TCP use a Unix socket, or nginx `fastcgi_keep_conn on;` with \
            upstream `keepalive`; in scripts use persistent connections (pconnect, PDO::ATTR_PERSISTENT) or a \
            local proxy such as pgbouncer",
        source: "nginx docs: ngx_http_fastcgi_module, fastcgi_keep_conn; PHP manual: Persistent Database Connections",
    },
    Program {
        name: "postgresql",
        comms: &["postgres"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "A backend that runs a long query does not notice that its client left: set \
            `client_connection_check_interval` (14 and later); also `statement_timeout` and \
            `idle_in_transaction_session_timeout`",
        source: "PostgreSQL docs: Server Configuration, Connections and Authentication, TCP Settings; Client \
            Connection Defaults",
    },
    Program {
        name: "postgresql",
        comms: &["postgres"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "Set `tcp_keepalives_idle`, `tcp_keepalives_interval`, `tcp_keepalives_count` and \
            `tcp_user_timeout`; `idle_session_timeout` (14 and later) for forgotten sessions",
        source: "PostgreSQL docs: Server Configuration, Connections and Authentication, TCP Settings",
    },
    Program {
        name: "postgresql client",
        comms: &[],
        words: &[],
        peer_ports: &[5432],
        topic: Topic::Keepalive,
        advice: "In the connection string set `keepalives_idle=`, `keepalives_interval=`, `keepalives_count=`, \
            `tcp_user_timeout=` and `connect_timeout=` (JDBC: tcpKeepAlive=true, socketTimeout)",
        source: "PostgreSQL docs: libpq, Parameter Key Words; pgJDBC docs: Connection parameters",
    },
    Program {
        name: "pgbouncer",
        comms: &["pgbouncer"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `listen_backlog` (128) with net.core.somaxconn, `max_client_conn` and its file limit; one \
            process is one thread: run several with `so_reuseport = 1`",
        source: "PgBouncer docs: Configuration, listen_backlog, max_client_conn, so_reuseport",
    },
    Program {
        name: "mysql",
        comms: &["mysqld", "mariadbd"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `back_log` with net.core.somaxconn and restart; check `max_connections`, \
            `thread_cache_size`, and slow name look-ups (`skip_name_resolve`)",
        source: "MySQL Reference Manual: Server System Variables, back_log, max_connections",
    },
    Program {
        name: "mysql",
        comms: &["mysqld", "mariadbd"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "Lower `wait_timeout` and `interactive_timeout` (28800 s) so that forgotten sessions end, and \
            keep client pools below them",
        source: "MySQL Reference Manual: Server System Variables, wait_timeout, interactive_timeout",
    },
    Program {
        name: "mysql client",
        comms: &[],
        words: &[],
        peer_ports: &[3306],
        topic: Topic::CloseWait,
        advice: "Recycle pool connections before the server's `wait_timeout`: HikariCP maxLifetime, SQLAlchemy \
            `pool_recycle` and `pool_pre_ping`, Go db.SetConnMaxLifetime",
        source: "MySQL Reference Manual: Server System Variables, wait_timeout; SQLAlchemy docs: Connection \
            Pooling, Dealing with Disconnects; Go database/sql docs",
    },
    Program {
        name: "redis",
        comms: &["redis-server", "valkey-server"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `tcp-backlog` (511) with net.core.somaxconn and restart; look for slow commands (SLOWLOG): \
            one thread serves all; check `maxclients`",
        source: "Redis docs: redis.conf, tcp-backlog; Redis client handling",
    },
    Program {
        name: "redis",
        comms: &["redis-server", "valkey-server"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "Keep `tcp-keepalive` (300 s) below the NAT's idle limit; set `timeout` to close clients that are \
            idle for N seconds (0 is never)",
        source: "Redis docs: redis.conf, tcp-keepalive, timeout; Redis client handling",
    },
    Program {
        name: "redis client",
        comms: &[],
        words: &[],
        peer_ports: &[6379],
        topic: Topic::CloseWait,
        advice: "If the server sets `timeout`, test idle connections: redis-py `health_check_interval=`, Jedis \
            pool `testWhileIdle` and minEvictableIdleDuration, go-redis ConnMaxIdleTime below it; return Jedis by \
            try-with-resources",
        source: "redis-py docs: Connection; Jedis wiki: Getting started; go-redis docs: Options",
    },
    Program {
        name: "redis client",
        comms: &[],
        words: &[],
        peer_ports: &[6379],
        topic: Topic::TimeWaitClient,
        advice: "Create one client or pool per process, not per request (redis-py ConnectionPool, JedisPool, one \
            Lettuce connection, one ioredis instance); pipeline bursts",
        source: "Redis docs: Connection pools and multiplexing",
    },
    Program {
        name: "docker-proxy",
        comms: &["docker-proxy"],
        words: &[],
        peer_ports: &[],
        topic: Topic::CloseWait,
        advice: "It relays both directions: fix the container or client that does not close. Set \
            `\"userland-proxy\": false` in /etc/docker/daemon.json and restart the daemon, so that published \
            ports use NAT only",
        source: "Docker docs: Packet filtering and firewalls / daemon.json userland-proxy; docker/for-linux issue \
            335",
    },
    Program {
        name: "memcached",
        comms: &["memcached"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Raise `-b` / `--listen-backlog` (1024) with net.core.somaxconn; at `-c` connections (1024) it \
            stops accepting, or closes new ones at once (maxconns_fast): raise it, with the file limit, or fix \
            client pools",
        source: "memcached(1): --listen-backlog, --conn-limit",
    },
    Program {
        name: "sshd",
        comms: &["sshd", "sshd-session", "sshd-auth"],
        words: &[],
        peer_ports: &[],
        topic: Topic::Keepalive,
        advice: "Set `ClientAliveInterval 60` with `ClientAliveCountMax 3` (encrypted, answers for the session); \
            `TCPKeepAlive yes` is the default; client: ServerAliveInterval",
        source: "sshd_config(5): ClientAliveInterval, TCPKeepAlive; ssh_config(5): ServerAliveInterval",
    },
    Program {
        name: "sshd",
        comms: &["sshd", "sshd-session", "sshd-auth"],
        words: &[],
        peer_ports: &[],
        topic: Topic::AcceptQueue,
        advice: "Unauthenticated connections are dropped by `MaxStartups` (10:30:100) and `PerSourceMaxStartups`, \
            not by the queue; lower `LoginGraceTime`, fix slow DNS (`UseDNS no`), limit brute force upstream",
        source: "sshd_config(5): MaxStartups, LoginGraceTime, UseDNS",
    },
    Program {
        name: "ab",
        comms: &["ab"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Add `-k` for keep-alive; without it every request is a new connection (HTTP/1.0)",
        source: "ab(1): -k",
    },
    Program {
        name: "wrk",
        comms: &["wrk", "wrk2"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "wrk keeps connections alive: remove `Connection: close` from -H or the Lua script, and see \
            whether the server closes; raise -c instead of restarting",
        source: "wrk README",
    },
    Program {
        name: "hey",
        comms: &["hey"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Do not pass `-disable-keepalive`; set -c to the wanted concurrency",
        source: "hey README: usage",
    },
    Program {
        name: "k6",
        comms: &["k6"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Remove `noConnectionReuse` and `noVUConnectionReuse` from options; spread over source addresses \
            with `--local-ips`",
        source: "Grafana k6 docs: Options reference, No connection reuse, No VU connection reuse, Local IPs",
    },
    Program {
        name: "siege",
        comms: &["siege"],
        words: &[],
        peer_ports: &[],
        topic: Topic::TimeWaitClient,
        advice: "Set `connection = keep-alive` in siege.conf (the default is close)",
        source: "siege.conf: connection directive",
    },
    Program {
        name: "load generator",
        comms: &["vegeta", "h2load"],
        words: &[],
        peer_ports: &[],
        topic: Topic::PortExhaustion,
        advice: "One generator address gives about 28,000 ports per target address and port: add source addresses \
            or targets, use keep-alive; the limit is the generator's, not the server's",
        source: "ip-sysctl: ip_local_port_range; ip(7)",
    },
];
