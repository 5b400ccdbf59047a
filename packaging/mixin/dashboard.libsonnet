// The dashboard of packaging/grafana/tcpstate.json, which a test compares with it.
local datasource = { type: 'prometheus', uid: '${datasource}' };

local dashboard(config) = {
  local panel(kind, width, height, given) = {
    type: kind,
    title: given.title,
    description: std.get(given, 'about', ''),
    datasource: datasource,
    gridPos: { w: width, h: height },
    fieldConfig: {
      defaults: {
        unit: std.get(given, 'unit', 'short'),
        min: 0,
        [if std.objectHas(given, 'red_from') then 'thresholds']: {
          mode: 'absolute',
          steps: [{ color: 'green', value: null }, { color: 'red', value: given.red_from }],
        },
      },
      overrides: [],
    },
    targets: [
      {
        refId: std.char(std.codepoint('A') + n),
        datasource: datasource,
        expr: std.strReplace(given.queries[n][0], 'HOST', config.host),
        legendFormat: given.queries[n][1],
      }
      for n in std.range(0, std.length(given.queries) - 1)
    ],
  },
  local stat(given) = panel('stat', 6, 4, given),
  local series(given) = panel('timeseries', 12, 8, given) + {
    fieldConfig+: { defaults+: { custom: { fillOpacity: 10, showPoints: 'never' } } },
    options: {
      legend: { displayMode: 'list', placement: 'bottom' },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  },
  local table(given) = panel('table', 24, 8, given) + {
    targets: [target { format: 'table', instant: true } for target in super.targets],
    transformations: [{
      id: 'organize',
      options: { excludeByName: { Time: true, Value: true, __name__: true, job: true, id: true } },
    }],
  },
  // From left to right, and below where a line is full.
  local place(panels) = std.foldl(
    function(done, panel)
      local full = done.x + panel.gridPos.w > 24;
      local x = if full then 0 else done.x;
      local y = if full then done.y + done.height else done.y;
      {
        x: x + panel.gridPos.w,
        y: y,
        height: panel.gridPos.h,
        panels: done.panels + [panel { id: std.length(done.panels) + 1, gridPos+: { x: x, y: y } }],
      },
    panels,
    { x: 0, y: 0, height: 0, panels: [] }
  ).panels,

  title: config.title,
  uid: config.uid,
  tags: config.tags,
  timezone: 'browser',
  schemaVersion: 39,
  version: 1,
  editable: true,
  refresh: config.refresh,
  time: { from: config.from, to: 'now' },
  annotations: { list: [] },
  templating: {
    list: [
      { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source' },
      {
        name: 'instance',
        type: 'query',
        label: 'Host',
        datasource: datasource,
        query: { query: 'label_values(tcpstate_build_info, instance)', refId: 'instance' },
        multi: true,
        includeAll: true,
        allValue: '.*',
        current: { text: 'All', value: '$__all' },
        refresh: 2,
        sort: 1,
      },
    ],
  },
  panels: place([
    stat({
      title: 'Critical and high findings',
      about: 'What the rules of the doctor find now.',
      red_from: 1,
      queries: [['sum(tcpstate_findings{HOST, severity=~"critical|high"})', '']],
    }),
    stat({
      title: 'Hosts',
      queries: [['count(tcpstate_build_info{HOST})', '']],
    }),
    stat({
      title: 'Parts that cannot be collected',
      red_from: 1,
      queries: [['sum(1 - tcpstate_scrape_collector_success{HOST})', '']],
    }),
    stat({
      title: 'Things that cannot be seen',
      about: 'Often a missing privilege; see the label `what`.',
      queries: [['count(tcpstate_gap{HOST}) or vector(0)', '']],
    }),
    table({
      title: 'Findings',
      about: 'Each rule has a page: docs/rules.',
      queries: [['tcpstate_finding{HOST}', '']],
    }),
    series({
      title: 'Sockets by state',
      queries: [['sum by (state) (tcpstate_sockets{HOST}) > 0', '{{state}}']],
    }),
    series({
      title: 'CLOSE_WAIT by program',
      about: 'The peer has closed, the program has not.',
      queries: [['topk(10, sum by (instance, process) (tcpstate_program_sockets{HOST, state="close_wait"}))', '{{instance}} {{process}}']],
    }),
    series({
      title: 'Accept queues',
      unit: 'percentunit',
      queries: [['topk(10, tcpstate_listener_accept_queue{HOST} / (tcpstate_listener_accept_queue_limit{HOST} > 0))', '{{instance}} {{address}}:{{port}} {{process}}']],
    }),
    series({
      title: 'Handshakes that listeners drop',
      unit: 'cps',
      queries: [['topk(10, rate(tcpstate_listener_drops_total{HOST}[$__rate_interval]))', '{{instance}} {{address}}:{{port}} {{process}}']],
    }),
    series({
      title: 'Local ports towards the fullest destination',
      unit: 'percentunit',
      queries: [['max by (instance) (tcpstate_local_ports_taken{HOST} / tcpstate_local_ports_usable{HOST})', '{{instance}}']],
    }),
    series({
      title: 'Segments sent again',
      unit: 'percentunit',
      queries: [['rate(tcpstate_segments_retransmitted_total{HOST}[$__rate_interval]) / (rate(tcpstate_segments_sent_total{HOST}[$__rate_interval]) > 0)', '{{instance}}']],
    }),
    series({
      title: 'Connections opened',
      unit: 'cps',
      queries: [
        ['sum(rate(tcpstate_active_opens_total{HOST}[$__rate_interval]))', 'active'],
        ['sum(rate(tcpstate_passive_opens_total{HOST}[$__rate_interval]))', 'passive'],
      ],
    }),
    series({
      title: 'Connections that fail or are reset',
      about: 'Failures of connect() only where changes are traced.',
      unit: 'cps',
      queries: [
        ['sum by (error) (rate(tcpstate_connect_failures_total{HOST}[$__rate_interval]))', 'connect: {{error}}'],
        ['sum(rate(tcpstate_resets_sent_total{HOST}[$__rate_interval]))', 'RST sent'],
        ['sum(rate(tcpstate_established_resets_total{HOST}[$__rate_interval]))', 'open connections reset'],
      ],
    }),
    series({
      title: 'TCP memory of the limit for pressure',
      unit: 'percentunit',
      queries: [['tcpstate_memory_bytes{HOST} / ignoring (limit) tcpstate_memory_limit_bytes{HOST, limit="pressure"}', '{{instance}}']],
    }),
    series({
      title: 'Time of a collection',
      unit: 's',
      queries: [['max by (collector) (tcpstate_scrape_collector_duration_seconds{HOST})', '{{collector}}']],
    }),
  ]),
};

{
  grafanaDashboards+:: {
    'tcpstate.json': dashboard($._config),
  },
}
