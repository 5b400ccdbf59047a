//! `tcpstate mcp` by the official client of PyPI. Comes in: that client, which checks what is structured against the schema that the
//! server gave for it. Goes out: the tools it lists, the answer of each, and how it hears of an error. Never here: the lines
//! themselves (`mcp`).

use serde_json::Value as Json;

use crate::harness::helper::Helper;
use crate::harness::{finish, in_netns, tool};

/// Prints a line of JSON for each answer.
const CLIENT: &str = "
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

CALLS = [
    ('summary', {'by': ['process']}),
    ('list', {'filter': 'state close-wait', 'limit': 3}),
    ('doctor', {'once': True}),
    ('explain', {'topic': 'CLOSE_WAIT'}),
    ('diff', {'interval': '1s'}),
    ('list', {'filter': 'dport ='}),
    ('kill', {'filter': 'state close-wait'}),
]

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=['mcp'])
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            begun = (await session.initialize()).model_dump(mode='json', by_alias=True)
            listed = (await session.list_tools()).model_dump(mode='json', by_alias=True)
            print(json.dumps({'server': begun['serverInfo']['name'], 'tools': [tool['name'] for tool in listed['tools']]}))
            for name, arguments in CALLS:
                try:
                    answer = (await session.call_tool(name, arguments)).model_dump(mode='json', by_alias=True)
                    text = ''.join(part['text'] for part in answer['content'])
                    print(json.dumps({'is_error': answer['isError'], 'document': answer['structuredContent'], 'text': text}))
                except Exception as error:
                    print(json.dumps({'refused': str(error)}))

asyncio.run(main())
";

#[test]
fn the_official_client_lists_the_tools_calls_each_and_hears_of_errors() {
    let Some(python) = tool("python3") else { return };
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 250 eof_read closed");
        let output = finish(ns.command(&python).args(["-c", CLIENT, env!("CARGO_BIN_EXE_tcpstate")]));
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let answers: Vec<Json> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [begun, summary, list, doctor, explain, diff, wrong, kill] = &answers[..] else {
            panic!("{said}\n{errors}")
        };
        let tools: Vec<&str> = begun["tools"].as_array().expect("tools").iter().filter_map(Json::as_str).collect();
        assert_eq!(
            (begun["server"].as_str(), &tools[..]),
            (Some("tcpstate"), &["doctor", "summary", "list", "diff", "explain"][..])
        );
        for answer in [summary, list, doctor, explain, diff] {
            assert!(answer["is_error"] == false && answer["document"].is_object(), "{answer}");
        }
        assert_eq!(summary["document"]["states"]["close_wait"], 250);
        assert_eq!(
            (&list["document"]["total"], list["document"]["sockets"].as_array().map(Vec::len)),
            (&250.into(), Some(3))
        );
        assert!(doctor["document"]["findings"].is_array() && explain["document"]["topic"].is_object());
        assert!(summary["text"].as_str().is_some_and(|text| text.contains("leaky")), "{summary}");
        assert!(
            wrong["is_error"] == true && wrong["text"].as_str().is_some_and(|text| text.starts_with("filter:")),
            "{wrong}"
        );
        assert!(kill["refused"].as_str().is_some_and(|why| why.contains("there is no tool `kill`")), "{kill}");
    });
}
