//! What is shipped for Kubernetes, by the programs that people check it with. Comes in: the manifest and the chart. Goes out: what
//! `kubernetes-validate --strict` and `helm` say, and where the two differ. Never here: a cluster.

use std::path::Path;
use std::process::Command;

use crate::harness::{finish, tool};
use crate::tidy::{read, root};

const MANIFEST: &str = "packaging/kubernetes/daemonset.yaml";
const CHART: &str = "packaging/helm/tcpstate";
const VALIDATE: &str = "kubernetes-validate";
/// Versions of Kubernetes, an older one and a recent one.
const VERSIONS: [&str; 2] = ["1.27", "1.34"];

/// What the validator says against a file.
fn validate(program: &Path, file: &Path, version: &str) -> Result<(), String> {
    let output = finish(Command::new(program).args(["--strict", "-k", version]).arg(file));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// The manifests that the chart makes.
fn template(helm: &Path, more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm);
    command.args(["template", "tcpstate"]).arg(root().join(CHART)).args(["--namespace", "monitoring"]).args(more);
    let output = finish(&mut command);
    let text = String::from_utf8(output.stdout).expect("text");
    if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The part of a manifest that says what a pod is, without comments.
fn pod(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "    spec:");
    lines.filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()).collect()
}

#[test]
fn the_manifest_is_valid_to_the_letter() {
    let Some(program) = tool(VALIDATE) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let wrong = dir.path().join("wrong.yaml");
    std::fs::write(&wrong, read(MANIFEST).replace("hostPID", "hostPid")).expect("write");
    for version in VERSIONS {
        assert_eq!(validate(&program, &root().join(MANIFEST), version), Ok(()), "{version}");
        assert!(validate(&program, &wrong, version).is_err_and(|said| said.contains("hostPid")), "the check can fail");
    }
}

#[test]
fn the_chart_makes_the_manifest_and_refuses_wrong_values() {
    let (Some(program), Some(helm)) = (tool(VALIDATE), tool("helm")) else { return };
    let lint = finish(Command::new(&helm).args(["lint", "--strict"]).arg(root().join(CHART)));
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    let made = template(&helm, &[]).expect("the chart with its own values");
    assert_eq!(pod(&made), pod(&read(MANIFEST)), "the chart and the manifest differ");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("made.yaml");
    let more = ["--set", "options={--peers,--netns=all}", "--set", "port=9999", "--set", "nodeSelector.disk=ssd"];
    for values in [&[][..], &more] {
        std::fs::write(&file, template(&helm, values).expect("these values")).expect("write");
        for version in VERSIONS {
            assert_eq!(validate(&program, &file, version), Ok(()), "{version} {values:?}");
        }
    }
    let changed = template(&helm, &more).expect("these values");
    assert!(changed.contains("\"$(NODE_IP):9999\", \"--peers\", \"--netns=all\"]"), "{changed}");
    let watched = template(&helm, &["--set", "podMonitor.enabled=true"]).expect("these values");
    assert!(watched.contains("kind: PodMonitor") && !made.contains("PodMonitor"), "{watched}");
    for wrong in ["port=http", "prot=1", "image.name=x", "options={peers}"] {
        assert!(template(&helm, &["--set", wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn the_versions_of_chart_and_image_are_that_of_the_program() {
    let (chart, manifest, version) = (read(format!("{CHART}/Chart.yaml")), read(MANIFEST), env!("CARGO_PKG_VERSION"));
    for line in [format!("version: {version}"), format!("appVersion: \"{version}\"")] {
        assert!(chart.lines().any(|l| l == line), "{line}: {chart}");
    }
    assert!(manifest.contains(&format!("image: tcpstate:{version}\n")), "{manifest}");
}
