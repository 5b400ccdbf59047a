//! The style and the script of the page.

/// Dark and light by what the reader has chosen, readable on a phone, and printable.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1f24;--dim:#5b6470;--line:#d5dae1;--box:#f5f7f9}\
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e3e6ea;--dim:#9aa4b0;--line:#343b44;--box:#1d2228}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}\
h3{font-size:1rem;margin:0 0 .3rem}p{margin:.4rem 0}.dim{color:var(--dim)}\
article{background:var(--box);border-left:4px solid var(--line);padding:.7rem 1rem;margin:.8rem 0;overflow-wrap:anywhere}\
article.critical{border-color:#b00020}article.high{border-color:#d1495b}\
article.warning{border-color:#c98a00}article.info{border-color:#2a7ab0}\
article article{margin:.6rem 0 0;padding:.3rem .7rem}\
dl{margin:.4rem 0;display:grid;grid-template-columns:6.5rem 1fr;gap:.2rem .8rem}dt{color:var(--dim)}dd{margin:0}\
dd ol,dd ul{margin:0;padding-left:1.2rem}code,pre{font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap}\
.tag{font-size:.75rem;font-weight:700;text-transform:uppercase;letter-spacing:.04em;margin-right:.5rem}\
svg{display:block;width:100%;height:auto;margin:.4rem 0}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}\
.grid{stroke:var(--line)}polyline{fill:none;stroke-width:2}rect.critical{fill:#b00020}rect.high{fill:#d1495b}\
rect.warning{fill:#c98a00}rect.info{fill:#2a7ab0}\
.c0{stroke:#2a7ab0;fill:#2a7ab0}.c1{stroke:#d1495b;fill:#d1495b}.c2{stroke:#3c8f5a;fill:#3c8f5a}.c3{stroke:#c98a00;fill:#c98a00}\
.c4{stroke:#8a63c9;fill:#8a63c9}.c5{stroke:#0f8f8f;fill:#0f8f8f}.c6{stroke:#b0602a;fill:#b0602a}.c7{stroke:#7a828c;fill:#7a828c}\
polyline.c0,polyline.c1,polyline.c2,polyline.c3,polyline.c4,polyline.c5,polyline.c6,polyline.c7{fill:none}\
.legend{font-size:.85rem}.legend span{white-space:nowrap;margin-right:.8rem}\
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;border-radius:2px}\
i.c0{background:#2a7ab0}i.c1{background:#d1495b}i.c2{background:#3c8f5a}i.c3{background:#c98a00}\
i.c4{background:#8a63c9}i.c5{background:#0f8f8f}i.c6{background:#b0602a}i.c7{background:#7a828c}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;min-width:50%}\
th,td{text-align:left;padding:.2rem .7rem .2rem 0;border-bottom:1px solid var(--line);white-space:nowrap}\
td.n,th.n{text-align:right}th button{all:unset;cursor:pointer;font-weight:700}th button:focus-visible{outline:2px solid}\
th[aria-sort=ascending] button::after{content:' \\2191'}th[aria-sort=descending] button::after{content:' \\2193'}\
input{font:inherit;width:100%;max-width:24rem;padding:.3rem .5rem;border:1px solid var(--line);\
background:var(--paper);color:inherit}\
summary{cursor:pointer}\
@media(max-width:40rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}article{padding:.6rem .7rem}\
svg{overflow:visible}svg text{font-size:20px}}\
@media print{details::details-content{content-visibility:visible;block-size:auto}\
body{max-width:none;font-size:11pt}input,.screen{display:none}article{break-inside:avoid}}";

/// Sorts the table of sockets by the column that is clicked, and shows the rows that have all words that are typed.
pub(super) const SCRIPT: &str = "\
const table=document.querySelector('table.sockets');\
if(table){\
const body=table.tBodies[0],rows=[...body.rows],heads=[...table.tHead.rows[0].cells];\
const key=(row,i)=>{const cell=row.cells[i],n=cell.dataset.n;return n===undefined?cell.textContent:Number(n)};\
heads.forEach((head,i)=>head.querySelector('button').addEventListener('click',()=>{\
const down=head.getAttribute('aria-sort')==='ascending';\
heads.forEach(h=>h.removeAttribute('aria-sort'));\
head.setAttribute('aria-sort',down?'descending':'ascending');\
const compare=(a,b)=>{const x=key(a,i),y=key(b,i);\
return typeof x==='number'&&typeof y==='number'?x-y:String(x).localeCompare(String(y),undefined,{numeric:true})};\
rows.sort((a,b)=>down?compare(b,a):compare(a,b));\
body.append(...rows)}));\
const search=document.querySelector('input[type=search]'),count=document.querySelector('#shown');\
const show=()=>{const words=search.value.toLowerCase().split(/\\s+/).filter(Boolean);let n=0;\
rows.forEach(row=>{const text=row.textContent.toLowerCase();\
const fits=words.every(word=>text.includes(word));row.hidden=!fits;n+=fits});\
count.textContent=n+' of '+rows.length+' rows'};\
search.addEventListener('input',show);show()}";
