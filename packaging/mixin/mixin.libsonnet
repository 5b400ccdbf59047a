// The monitoring mixin: grafanaDashboards, prometheusRules and prometheusAlerts, as tools for mixins take them.
(import 'config.libsonnet')
+ (import 'dashboard.libsonnet')
+ {
  // The files that a Prometheus reads without jsonnet are what is tested, so they are what is taken.
  prometheusRules+:: std.parseYaml(importstr '../prometheus/rules.yml'),
  prometheusAlerts+:: std.parseYaml(importstr '../prometheus/alerts.yml'),
}
