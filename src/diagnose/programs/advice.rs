//! What to set in which program, as a table: one row per program and topic.
//!
//! Comes in: nothing. Goes out: [`ADVICE`], researched in the programs' own manuals. Never here: how a program is
//! recognised (see [`super::PROGRAMS`]), or advice without a source.

use crate::diagnose::finding::Topic::{
    self, AcceptQueue, CloseWait, CloseWaitServer, Keepalive, PortExhaustion, TimeWaitClient, TimeWaitServer,
};

/// One piece of advice.
pub struct Advice {
    /// Id of a program.
    pub program: &'static str,
    pub topic: Topic,
    /// A remedy: lower case, no full stop.
    pub text: &'static str,
    /// Where it stands.
    pub source: &'static str,
}

const fn tip(program: &'static str, topic: Topic, text: &'static str, source: &'static str) -> Advice {
    Advice { program, topic, text, source }
}

/// Every piece of advice; those of a program in the order of their topics.
pub const ADVICE: &[Advice] = &[
    tip(
        "nginx",
        TimeWaitClient,
        "add keepalive N to the upstream block; before 1.29.7 also set proxy_http_version 1.1 and \
         proxy_set_header Connection \"\" (from 1.29.7 keep-alive to upstreams is the default, 32 per worker)",
        "nginx docs: ngx_http_upstream_module, keepalive; ngx_http_proxy_module, proxy_http_version; CHANGES \
         1.29.7",
    ),
    tip(
        "nginx",
        TimeWaitServer,
        "raise keepalive_timeout above the load balancer's idle limit and keepalive_requests (1000 by default) \
         so that nginx does not close first",
        "nginx docs: ngx_http_core_module, keepalive_timeout, keepalive_requests",
    ),
    tip(
        "nginx",
        CloseWait,
        "keep upstream keepalive_timeout (60s) below the backend's idle timeout; set proxy_read_timeout and \
         send_timeout so that a stuck request ends",
        "nginx docs: ngx_http_upstream_module, keepalive_timeout; ngx_http_proxy_module, proxy_read_timeout",
    ),
    tip(
        "nginx",
        AcceptQueue,
        "raise backlog= of listen (511 on Linux) with net.core.somaxconn, and add reuseport; check \
         worker_connections and worker_rlimit_nofile; a reload applies a changed backlog, a changed somaxconn \
         alone needs a restart",
        "nginx docs: ngx_http_core_module, listen",
    ),
    tip(
        "nginx",
        PortExhaustion,
        "add upstream keep-alive first; then spread over several source addresses with proxy_bind and a \
         split_clients variable, or over more backend addresses (nginx sets IP_BIND_ADDRESS_NO_PORT itself)",
        "nginx docs: ngx_http_proxy_module, proxy_bind; ngx_http_split_clients_module",
    ),
    tip(
        "nginx",
        Keepalive,
        "set so_keepalive=on (or idle:intvl:cnt) on listen for clients and proxy_socket_keepalive on for \
         upstreams",
        "nginx docs: ngx_http_core_module, listen; ngx_http_proxy_module, proxy_socket_keepalive",
    ),
    tip(
        "haproxy",
        TimeWaitClient,
        "use http-reuse safe or aggressive, remove option httpclose and option http-server-close; size the idle \
         pool with server options pool-max-conn and pool-purge-delay (5s)",
        "HAProxy Configuration Manual: http-reuse; 5.2 server options pool-max-conn, pool-purge-delay",
    ),
    tip(
        "haproxy",
        PortExhaustion,
        "add source addresses with one source address per server line, or source IP:low-high port ranges; more \
         server addresses multiply the tuples",
        "HAProxy Configuration Manual: source",
    ),
    tip(
        "haproxy",
        CloseWait,
        "set timeout client-fin and timeout server-fin (a few seconds) so that half-closed connections do not \
         wait for the long timeouts; set timeout tunnel for upgraded ones",
        "HAProxy Configuration Manual: timeout client-fin, timeout server-fin, timeout tunnel",
    ),
    tip(
        "haproxy",
        AcceptQueue,
        "raise backlog of the frontend together with maxconn (global and frontend): past maxconn HAProxy stops \
         accepting on purpose",
        "HAProxy Configuration Manual: backlog, maxconn",
    ),
    tip(
        "envoy",
        TimeWaitClient,
        "leave max_requests_per_connection unset and raise the upstream idle_timeout (1h default) in \
         common_http_protocol_options of the cluster; prefer HTTP/2 upstreams",
        "Envoy docs: HttpProtocolOptions; FAQ: How do I configure timeouts?",
    ),
    tip(
        "envoy",
        CloseWait,
        "for tcp_proxy lower idle_timeout (1h default): half-closed connections stay until it fires; keep \
         upstream HTTP idle_timeout below the backend's",
        "Envoy docs: TcpProxy idle_timeout; FAQ: How do I configure timeouts?; envoyproxy/envoy issue 41086",
    ),
    tip(
        "envoy",
        AcceptQueue,
        "set listener tcp_backlog_size (Linux default: net.core.somaxconn at start); keep enable_reuse_port and \
         look for one busy worker; consider connection_balance_config",
        "Envoy docs: Listener tcp_backlog_size, enable_reuse_port, connection_balance_config",
    ),
    tip(
        "apache-httpd",
        TimeWaitServer,
        "set KeepAlive On, KeepAliveTimeout above the load balancer's idle limit, and raise MaxKeepAliveRequests \
         (100; 0 is unlimited)",
        "Apache HTTP Server docs: core, KeepAlive, KeepAliveTimeout, MaxKeepAliveRequests",
    ),
    tip(
        "apache-httpd",
        TimeWaitClient,
        "in ProxyPass give the backend its own worker with enablereuse=on, drop disablereuse=on and SetEnv \
         proxy-nokeepalive; RewriteRule [P] to unnamed backends never pools",
        "Apache HTTP Server docs: mod_proxy, ProxyPass parameters",
    ),
    tip(
        "apache-httpd",
        CloseWait,
        "set ttl= of the ProxyPass worker below the backend's keep-alive timeout (worker and event MPM), and \
         connectiontimeout=/timeout=",
        "Apache HTTP Server docs: mod_proxy, ProxyPass parameters ttl, timeout",
    ),
    tip(
        "apache-httpd",
        AcceptQueue,
        "raise MaxRequestWorkers (with ServerLimit) first, then ListenBackLog (511) with net.core.somaxconn; use \
         the event MPM; restart",
        "Apache HTTP Server docs: mpm_common, ListenBackLog, MaxRequestWorkers",
    ),
    tip(
        "java-httpclient4",
        CloseWait,
        "close every CloseableHttpResponse (try-with-resources, EntityUtils.consume); build with \
         evictExpiredConnections() and evictIdleConnections(t) below the server's keep-alive; keep \
         setValidateAfterInactivity",
        "Apache HttpClient 4.5 tutorial: 2.5 connection eviction policy; HttpClientBuilder javadoc",
    ),
    tip(
        "java-httpclient4",
        TimeWaitClient,
        "share one CloseableHttpClient and raise PoolingHttpClientConnectionManager setDefaultMaxPerRoute (2) \
         and setMaxTotal (20)",
        "Apache HttpClient 4.5 tutorial: 2.3 connection managers",
    ),
    tip(
        "java-httpclient5",
        CloseWait,
        "use execute(request, responseHandler) so that responses are always released; set \
         ConnectionConfig.setTimeToLive and setValidateAfterInactivity; evictIdleConnections(TimeValue) on the \
         builder",
        "Apache HttpClient 5 javadoc: ConnectionConfig, HttpClientBuilder",
    ),
    tip(
        "java-httpclient5",
        TimeWaitClient,
        "share one client; on PoolingHttpClientConnectionManagerBuilder set setMaxConnPerRoute (5) and \
         setMaxConnTotal (25) to the real concurrency",
        "Apache HttpClient 5 javadoc: PoolingHttpClientConnectionManagerBuilder",
    ),
    tip(
        "java-okhttp",
        CloseWait,
        "close every Response or its body (use {} or try-with-resources), failures too; set the keep-alive of \
         ConnectionPool (5 min) below the server's idle timeout",
        "OkHttp docs: Response, ConnectionPool",
    ),
    tip(
        "java-okhttp",
        TimeWaitClient,
        "share one OkHttpClient (derive with newBuilder()); size ConnectionPool(maxIdleConnections, ...) (5) to \
         the concurrency per host",
        "OkHttp docs: OkHttpClient, ConnectionPool",
    ),
    tip(
        "java-jdk-http",
        CloseWait,
        "HttpURLConnection: read getInputStream and getErrorStream to the end and close them; java.net.http: \
         consume the body, share one HttpClient, set -Djdk.httpclient.keepalive.timeout (seconds) below the \
         server's idle limit",
        "Java SE docs: module java.net.http system properties; Networking Properties (http.keepAlive)",
    ),
    tip(
        "java-jdk-http",
        TimeWaitClient,
        "keep http.keepAlive=true and raise http.maxConnections (5 per destination); do not call disconnect() \
         after each request",
        "Java SE docs: Networking Properties, http.keepAlive, http.maxConnections",
    ),
    tip(
        "java-hikaricp",
        CloseWait,
        "set maxLifetime some seconds below the database's or proxy's idle limit (MySQL wait_timeout); use \
         keepaliveTime and leakDetectionThreshold; close Connections by try-with-resources",
        "HikariCP README: maxLifetime, keepaliveTime, leakDetectionThreshold",
    ),
    tip(
        "tomcat",
        AcceptQueue,
        "raise Connector maxThreads (200) and find the blocked ones by thread dump; maxConnections (8192 for \
         NIO); then acceptCount (100) with net.core.somaxconn; Spring Boot: server.tomcat.accept-count",
        "Apache Tomcat docs: HTTP Connector, acceptCount, maxConnections, maxThreads",
    ),
    tip(
        "tomcat",
        TimeWaitServer,
        "raise Connector keepAliveTimeout above the proxy's idle limit and maxKeepAliveRequests (100; -1 is \
         unlimited)",
        "Apache Tomcat docs: HTTP Connector, keepAliveTimeout, maxKeepAliveRequests",
    ),
    tip(
        "tomcat",
        CloseWait,
        "find threads that block on a backend without a read timeout (jstack); set connectionTimeout (20 s as \
         shipped) and asyncTimeout; close streams and async contexts on error",
        "Apache Tomcat docs: HTTP Connector, connectionTimeout, asyncTimeout",
    ),
    tip(
        "go-net-http",
        CloseWait,
        "client: defer resp.Body.Close() after every successful call. Server: set ReadTimeout/ReadHeaderTimeout, \
         WriteTimeout and IdleTimeout on http.Server and stop handlers on r.Context().Done()",
        "Go package documentation: net/http Client, Response, Server",
    ),
    tip(
        "go-net-http",
        TimeWaitClient,
        "read the body to EOF (io.Copy to io.Discard) before Close, share one http.Client, and raise \
         Transport.MaxIdleConnsPerHost (2) and MaxIdleConns (100 in DefaultTransport) to the concurrency",
        "Go package documentation: net/http Transport, DefaultMaxIdleConnsPerHost",
    ),
    tip(
        "go-net-http",
        Keepalive,
        "net.Dialer and ListenConfig probe every 15 s by default; set KeepAliveConfig (Go 1.23) or KeepAlive; a \
         negative value switches it off, so look for that",
        "Go package documentation: net Dialer, ListenConfig, KeepAliveConfig",
    ),
    tip(
        "go-net-http",
        AcceptQueue,
        "net.Listen takes its backlog from net.core.somaxconn at the time of the call: raise the sysctl and \
         restart; look for an accept loop that blocks (a limit such as netutil.LimitListener)",
        "Go source: net/sock_linux.go maxListenerBacklog; x/net/netutil LimitListener",
    ),
    tip(
        "node-http-agent",
        TimeWaitClient,
        "pass a shared new http.Agent({ keepAlive: true, maxSockets }) to every client (global default only from \
         Node 19); read or resume() each response",
        "Node.js docs: http, Class http.Agent",
    ),
    tip(
        "node-http-agent",
        CloseWait,
        "consume or destroy every response; set Agent timeout or agentkeepalive freeSocketTimeout below the \
         server's keep-alive timeout; do not use allowHalfOpen without end()",
        "Node.js docs: http.Agent, net.Socket allowHalfOpen; agentkeepalive README",
    ),
    tip(
        "node-undici",
        CloseWait,
        "consume or cancel every body (await res.body.cancel()); set Agent keepAliveTimeout (4 s) below the \
         server's; setGlobalDispatcher(new Agent({...}))",
        "undici docs: Client options, Agent; fetch garbage collection note",
    ),
    tip(
        "node-server",
        TimeWaitServer,
        "set server.keepAliveTimeout (5 s) above the load balancer's idle limit, and server.headersTimeout above \
         that",
        "Node.js docs: http, server.keepAliveTimeout, server.headersTimeout",
    ),
    tip(
        "node-server",
        AcceptQueue,
        "unblock the event loop (no synchronous work in handlers) or use cluster; then server.listen({ port, \
         backlog }) (511) with net.core.somaxconn",
        "Node.js docs: net, server.listen",
    ),
    tip(
        "python-requests",
        CloseWait,
        "use with requests.Session() as s: and with s.get(..., stream=True) as r:; read or close every streamed \
         response; always pass timeout=",
        "Requests docs: Advanced Usage, Session Objects, Body Content Workflow",
    ),
    tip(
        "python-requests",
        TimeWaitClient,
        "use one Session instead of requests.get(); mount HTTPAdapter(pool_connections=, pool_maxsize=) (10 \
         each) at the concurrency",
        "Requests docs: Advanced Usage, Keep-Alive; API, HTTPAdapter",
    ),
    tip(
        "python-aiohttp",
        CloseWait,
        "use async with session.get(...) as r:; close the ClientSession at shutdown; set TCPConnector \
         keepalive_timeout (15 s) below the server's idle limit",
        "aiohttp docs: Client Reference, TCPConnector; Advanced client usage, Graceful shutdown",
    ),
    tip(
        "python-aiohttp",
        TimeWaitClient,
        "create one ClientSession per application, not per request; no force_close=True; set TCPConnector limit \
         (100) and limit_per_host",
        "aiohttp docs: Client Quickstart; Client Reference, TCPConnector",
    ),
    tip(
        "python-urllib3",
        CloseWait,
        "with preload_content=False call drain_conn() or release_conn(), or close the response; use PoolManager \
         as a context manager",
        "urllib3 docs: Advanced Usage, Streaming and I/O; HTTPResponse",
    ),
    tip(
        "python-urllib3",
        TimeWaitClient,
        "share one PoolManager; set maxsize (1) to the number of threads and block=True: connections beyond \
         maxsize are closed (\"Connection pool is full, discarding connection\")",
        "urllib3 docs: Advanced Usage, Customizing Pool Behavior",
    ),
    tip(
        "gunicorn",
        AcceptQueue,
        "raise --workers/--threads or use an async worker class; set --timeout; then --backlog (2048) with \
         net.core.somaxconn",
        "Gunicorn docs: Settings, backlog, workers, threads, worker_class",
    ),
    tip(
        "gunicorn",
        TimeWaitServer,
        "sync workers close after each response: use gthread, gevent or another async class with --keep-alive (2 \
         s) above the proxy's idle limit",
        "Gunicorn docs: Settings, keepalive",
    ),
    tip(
        "uwsgi",
        AcceptQueue,
        "raise processes/threads (or cheaper), set harakiri; then listen (100) with net.core.somaxconn, which \
         must be at least as large or uWSGI does not start",
        "uWSGI docs: Options, listen, harakiri; Things to know",
    ),
    tip(
        "php-fpm",
        AcceptQueue,
        "raise pm.max_children to what memory allows, find slow scripts with request_slowlog_timeout, end them \
         with request_terminate_timeout; then listen.backlog (511) with net.core.somaxconn",
        "PHP manual: FastCGI Process Manager, Configuration",
    ),
    tip(
        "php-fpm",
        TimeWaitClient,
        "between web server and FPM on TCP use a Unix socket, or nginx fastcgi_keep_conn on with upstream \
         keepalive; in scripts use persistent connections (pconnect, PDO::ATTR_PERSISTENT) or a local proxy such \
         as pgbouncer",
        "nginx docs: ngx_http_fastcgi_module, fastcgi_keep_conn; PHP manual: Persistent Database Connections",
    ),
    tip(
        "postgresql-server",
        CloseWait,
        "a backend that runs a long query does not notice that its client left: set \
         client_connection_check_interval (14 and later); also statement_timeout and \
         idle_in_transaction_session_timeout",
        "PostgreSQL docs: Server Configuration, Connections and Authentication, TCP Settings; Client Connection \
         Defaults",
    ),
    tip(
        "postgresql-server",
        Keepalive,
        "set tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count and tcp_user_timeout; \
         idle_session_timeout (14 and later) for forgotten sessions",
        "PostgreSQL docs: Server Configuration, Connections and Authentication, TCP Settings",
    ),
    tip(
        "postgresql-client",
        Keepalive,
        "in the connection string set keepalives_idle=, keepalives_interval=, keepalives_count=, \
         tcp_user_timeout= and connect_timeout= (JDBC: tcpKeepAlive=true, socketTimeout)",
        "PostgreSQL docs: libpq, Parameter Key Words; pgJDBC docs: Connection parameters",
    ),
    tip(
        "postfix",
        AcceptQueue,
        "raise the process limit of smtpd in master.cf (default_process_limit, 100); lower smtpd_timeout (10 s under \
         stress, unless main.cf sets a fixed value) and smtpd_client_connection_count_limit (50)",
        "Postfix docs: STRESS_README; postconf(5): default_process_limit, smtpd_timeout, \
         smtpd_client_connection_count_limit",
    ),
    tip(
        "pgbouncer",
        AcceptQueue,
        "raise listen_backlog (128) with net.core.somaxconn, max_client_conn and its file limit; one process is \
         one thread: run several with so_reuseport = 1",
        "PgBouncer docs: Configuration, listen_backlog, max_client_conn, so_reuseport",
    ),
    tip(
        "mysql-server",
        AcceptQueue,
        "raise back_log with net.core.somaxconn and restart; check max_connections, thread_cache_size, and slow \
         name look-ups (skip_name_resolve)",
        "MySQL Reference Manual: Server System Variables, back_log, max_connections",
    ),
    tip(
        "mysql-server",
        Keepalive,
        "lower wait_timeout and interactive_timeout (28800 s) so that forgotten sessions end, and keep client \
         pools below them",
        "MySQL Reference Manual: Server System Variables, wait_timeout, interactive_timeout",
    ),
    tip(
        "mysql-client",
        CloseWait,
        "recycle pool connections before the server's wait_timeout: HikariCP maxLifetime, SQLAlchemy \
         pool_recycle and pool_pre_ping, Go db.SetConnMaxLifetime",
        "MySQL Reference Manual: Server System Variables, wait_timeout; SQLAlchemy docs: Connection Pooling, \
         Dealing with Disconnects; Go database/sql docs",
    ),
    tip(
        "redis-server",
        AcceptQueue,
        "raise tcp-backlog (511) with net.core.somaxconn and restart; look for slow commands (SLOWLOG): one \
         thread serves all; check maxclients",
        "Redis docs: redis.conf, tcp-backlog; Redis client handling",
    ),
    tip(
        "redis-server",
        Keepalive,
        "keep tcp-keepalive (300 s) below the NAT's idle limit; set timeout to close clients that are idle for N \
         seconds (0 is never)",
        "Redis docs: redis.conf, tcp-keepalive, timeout; Redis client handling",
    ),
    tip(
        "redis-client",
        CloseWait,
        "if the server sets timeout, test idle connections: redis-py health_check_interval=, Jedis pool \
         testWhileIdle and minEvictableIdleDuration, go-redis ConnMaxIdleTime below it; return Jedis by \
         try-with-resources",
        "redis-py docs: Connection; Jedis wiki: Getting started; go-redis docs: Options",
    ),
    tip(
        "redis-client",
        TimeWaitClient,
        "create one client or pool per process, not per request (redis-py ConnectionPool, JedisPool, one Lettuce \
         connection, one ioredis instance); pipeline bursts",
        "Redis docs: Connection pools and multiplexing",
    ),
    tip(
        "docker-proxy",
        CloseWait,
        "it relays both directions: fix the container or client that does not close. Set \"userland-proxy\": \
         false in /etc/docker/daemon.json and restart the daemon, so that published ports use NAT only",
        "Docker docs: Packet filtering and firewalls / daemon.json userland-proxy; docker/for-linux issue 335",
    ),
    tip(
        "memcached",
        AcceptQueue,
        "raise -b / --listen-backlog (1024) with net.core.somaxconn; at -c connections (1024) it stops \
         accepting, or closes new ones at once (maxconns_fast): raise it, with the file limit, or fix client \
         pools",
        "memcached(1): --listen-backlog, --conn-limit",
    ),
    tip(
        "sshd",
        Keepalive,
        "set ClientAliveInterval 60 with ClientAliveCountMax 3 (encrypted, answers for the session); \
         TCPKeepAlive yes is the default; client: ServerAliveInterval",
        "sshd_config(5): ClientAliveInterval, TCPKeepAlive; ssh_config(5): ServerAliveInterval",
    ),
    tip(
        "sshd",
        AcceptQueue,
        "unauthenticated connections are dropped by MaxStartups (10:30:100) and PerSourceMaxStartups, not by the \
         queue; lower LoginGraceTime, fix slow DNS (UseDNS no), limit brute force upstream",
        "sshd_config(5): MaxStartups, LoginGraceTime, UseDNS",
    ),
    tip(
        "ab",
        TimeWaitClient,
        "add -k for keep-alive; without it every request is a new connection (HTTP/1.0)",
        "ab(1): -k",
    ),
    tip(
        "wrk",
        TimeWaitClient,
        "wrk keeps connections alive: remove Connection: close from -H or the Lua script, and see whether the \
         server closes; raise -c instead of restarting",
        "wrk README",
    ),
    tip("hey", TimeWaitClient, "do not pass -disable-keepalive; set -c to the wanted concurrency", "hey README: usage"),
    tip(
        "k6",
        TimeWaitClient,
        "remove noConnectionReuse and noVUConnectionReuse from options; spread over source addresses with \
         --local-ips",
        "Grafana k6 docs: Options reference, No connection reuse, No VU connection reuse, Local IPs",
    ),
    tip(
        "siege",
        TimeWaitClient,
        "set connection = keep-alive in siege.conf (the default is close)",
        "siege.conf: connection directive",
    ),
    tip(
        "load-generator",
        PortExhaustion,
        "one generator address gives about 28,000 ports per target address and port: add source addresses or \
         targets, use keep-alive; the limit is the generator's, not the server's",
        "ip-sysctl: ip_local_port_range; ip(7)",
    ),
    tip(
        "apache-httpd",
        CloseWaitServer,
        "lower TimeOut (60 s) and set RequestReadTimeout (mod_reqtimeout); find what the workers wait for with \
         mod_status, and give a backend timeout= in ProxyPass",
        "Apache HTTP Server docs: core, TimeOut; mod_reqtimeout; mod_status",
    ),
    tip(
        "java-server",
        CloseWaitServer,
        "close the Socket or HttpExchange in a finally block or by try-with-resources, also when the handler fails; \
         call setSoTimeout; take a thread dump (jstack) to see what the pool waits for",
        "Java SE docs: java.net.Socket setSoTimeout, close; com.sun.net.httpserver.HttpExchange close",
    ),
    tip(
        "node-server",
        CloseWaitServer,
        "with allowHalfOpen: true call socket.end() in the 'end' handler; set socket.setTimeout() and \
         server.requestTimeout (300 s); after socket.pause() always resume() or destroy()",
        "Node.js docs: net.createServer allowHalfOpen, socket.setTimeout; http server.requestTimeout",
    ),
    tip(
        "python-server",
        CloseWaitServer,
        "close by with or try/finally; asyncio: writer.close() and await writer.wait_closed() in a finally; give \
         blocking sockets settimeout(); py-spy dump --pid shows where the threads stand",
        "Python docs: asyncio Streams, StreamWriter.close; socket.settimeout; py-spy README",
    ),
    tip(
        "gunicorn",
        CloseWaitServer,
        "--timeout (30 s) ends a silent sync worker, 0 switches that off; give backend calls time limits, and move \
         long requests to gthread or an async worker class",
        "Gunicorn docs: Settings, timeout, worker_class",
    ),
    tip(
        "uwsgi",
        CloseWaitServer,
        "set harakiri to the longest time a request may take, and socket-timeout; a worker that waits for a backend \
         does not notice that its client left",
        "uWSGI docs: Options, harakiri, socket-timeout",
    ),
    tip(
        "php-fpm",
        CloseWaitServer,
        "a worker notices that the web server left only when it writes: set request_terminate_timeout, find the slow \
         script with request_slowlog_timeout and slowlog, and give backend calls time limits",
        "PHP manual: FastCGI Process Manager, Configuration; Connection handling",
    ),
];
