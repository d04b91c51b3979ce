"""What the rest of the program says in English, for a visitor who reads Japanese.

Domain errors are written once, in English, where they are raised: the command line and the logs show them as they are. A
page puts them through `line_for`, which looks for the English form below and fills the Japanese one with the same values. A
line that has no form here is shown as it is: in the wrong language, but true.
"""

from __future__ import annotations

import re
from functools import cache

# English form -> Japanese form, with the same names in braces. A value in braces may itself be a line of this table.
FORMS: dict[str, str] = {
    # models and what they are asked
    "There is no model {model} here; choose one of {known}.": "モデル {model} はここにありません。{known} から選んでください。",
    "There is no model {model} here; choose one of {known}, hub:ORG/NAME or path:FOLDER.": "モデル {model} はここにありません。{known}、または hub:ORG/NAME か path:FOLDER を指定してください。",
    "There is no judge {judge}; use {usual} or openai:MODEL.": "採点者 {judge} はありません。{usual} または openai:MODEL を選んでください。",
    "There is no judge {judge}; use {usual}, openai:MODEL or vllm:NAME.": "採点者 {judge} はありません。{usual}、openai:MODEL、vllm:NAME から選んでください。",
    "The prompt has {tokens} tokens and up to {most} are to be generated: {needed} in all, but {model} takes {context}. Shorten the text by {over} tokens or lower max tokens.": "質問は {tokens} トークン、生成は最大 {most} トークンで、合わせて {needed} です。{model} が扱えるのは {context} までなので、本文を {over} トークン短くするか、最大トークン数を下げてください。",
    "The engine for {base} is shut down; start the app again.": "{base} の推論は終了しています。アプリを起動し直してください。",
    "An adapter cannot be named {name}; that means no adapter.": "アダプターに {name} という名前は付けられません。「アダプターなし」を表す名前です。",
    "Self-test: adapter {name} changes a row that does not name it. Report this as a bug.": "自己診断: アダプター {name} が、指定していない行にも効いています。不具合として報告してください。",
    "Self-test: adapter {name} changes nothing; it is empty or not for this base.": "自己診断: アダプター {name} を重ねても出力が変わりません。中身が空か、別のモデル向けです。",
    "converting the embedded model, once, about a minute: {part}": "内蔵モデルを変換しています（初回のみ・約 1 分）",
    "another process is converting the embedded model; waiting for it": "別のプロセスの変換を待っています",
    "embedded model ready": "内蔵モデルの変換が終わりました",
    "fetching {base} from the hub, unless it is here already": "{base} を Hugging Face Hub から取得しています（手元にない場合）",
    "loading {base}": "{base} を読み込んでいます",
    "{folder} holds no config.json; name a folder with a transformers model.": "{folder} に config.json がありません。transformers 形式のモデルのフォルダーを指定してください。",
    "The model in {folder} cannot be loaded: {problem}": "{folder} のモデルを読み込めません: {problem}",
    "The tokenizer in {folder} cannot be loaded ({problem}).": "{folder} のトークナイザーを読み込めません（{problem}）。",
    "The embedded model did not load ({problem}); see the log.": "内蔵モデルを読み込めませんでした（{problem}）。詳しくはサーバーのログにあります。",
    "The embedded model did not load; the log has the details.": "内蔵モデルを読み込めませんでした。詳しくはサーバーのログにあります。",
    "The embedded model cannot be written to {folder} ({problem}); free 2 GB there or set PLAYGROUND_HOME to another folder.": "内蔵モデルを {folder} に書き込めません（{problem}）。2 GB の空きを作るか、PLAYGROUND_HOME を別のフォルダーにしてください。",
    "The package {package} is not installed; run `pip install -r requirements.txt` in this environment.": "パッケージ {package} がありません。この環境で `pip install -r requirements.txt` を実行してください。",
    "The worker ran out of memory. Shorten the prompt or restart the engine.": "メモリが足りなくなりました。質問を短くするか、アプリを起動し直してください。",
    "No key for {origin}; put PLAYGROUND_OPENAI_API_KEY in .env and start again.": "{origin} の API キーがありません。.env に PLAYGROUND_OPENAI_API_KEY を書き、起動し直してください。",
    "hub:{name} is gated; request access on https://huggingface.co/{page} and put HF_TOKEN in .env.": "hub:{name} は利用申請が必要です。https://huggingface.co/{page} で申請し、.env に HF_TOKEN を書いてください。",
    "There is no model {name} on the hub that this token can see; check the name.": "このトークンで見えるモデル {name} は Hub にありません。名前を確かめてください。",
    "hub:{name} cannot be fetched ({problem}); check the network, or use path:FOLDER.": "hub:{name} を取得できません（{problem}）。ネットワークを確かめるか、path:FOLDER を使ってください。",
    # a vLLM server
    "No port of 127.0.0.1 is free; end other programs.": "127.0.0.1 に空いたポートがありません。ほかのプログラムを終了してください。",
    "{url} refuses the key; set PLAYGROUND_VLLM_API_KEY.": "{url} がキーを拒みました。PLAYGROUND_VLLM_API_KEY を設定してください。",
    "{url} does not answer as a vLLM server does ({problem}).": "{url} は vLLM サーバーとして応答しません（{problem}）。",
    "{url} serves no model.": "{url} にはモデルがありません。",
    "{option} is set by the app; take it out of PLAYGROUND_VLLM_ARGS, or run a server of your own and name it in PLAYGROUND_VLLM_URL.": "{option} はアプリが決めます。PLAYGROUND_VLLM_ARGS から外すか、自分でサーバーを動かして PLAYGROUND_VLLM_URL に指定してください。",
    "{option} needs a number; change PLAYGROUND_VLLM_ARGS.": "{option} には数が要ります。PLAYGROUND_VLLM_ARGS を直してください。",
    "vLLM is not installed in {folder}; run `make vllm` in the project's folder.": "{folder} に vLLM がありません。プロジェクトのフォルダーで `make vllm` を実行してください。",
    "This CPU has no AVX2, without which vLLM cannot run; use the transformers engine.": "この CPU には AVX2 がなく、vLLM は動きません。transformers エンジンを使ってください。",
    "{folder} is not a model in safetensors that can be served ({problem}).": "{folder} は、サーバーで使える safetensors 形式のモデルではありません（{problem}）。",
    "{model} needs {need} GiB on {device} (weights {weights}, programs {programs}, cache for one request of {length} tokens {cache}, the rest spare) and {free} GiB are free. End other programs, lower PLAYGROUND_MAX_CONTEXT, or take a smaller model.": "{model} には {device} で {need} GiB が要ります（重み {weights}、プログラム {programs}、{length} トークンの質問 1 件のキャッシュ {cache}、残りは余裕分）。空きは {free} GiB です。ほかのプログラムを終了するか、PLAYGROUND_MAX_CONTEXT を下げるか、小さいモデルを選んでください。",
    "GPU {gpu} cannot be asked for its memory ({problem}).": "GPU {gpu} の空きメモリを調べられません（{problem}）。",
    "The server was killed, as systems do when memory runs out; free some and start it again.": "サーバーが強制終了されました。メモリ不足のときに OS が行うことがあります。空きを作って、起動し直してください。",
    "The server crashed in native code ({signal}); the CPU may lack what vLLM was built for. Use the transformers engine.": "サーバーがネイティブコードの中で異常終了しました（{signal}）。vLLM が前提とする CPU の機能が足りないのかもしれません。transformers エンジンを使ってください。",
    "The server ended ({problem}); its log says more.": "サーバーが終了しました（{problem}）。詳しくはログにあります。",
    "The server ended {count} times in {minutes} minutes. {said}": "サーバーが {minutes} 分間に {count} 回終了しました。{said}",
    "The server {what} for {seconds} s and is ended.": "サーバーが {seconds} 秒間{what}ため、終了させます。",
    "The supervision of the server failed ({problem}).": "サーバーの監視に失敗しました（{problem}）。",
    "{problem} Start the server when that has ended.": "{problem}それが終わってから、サーバーを起動してください。",
    "The vLLM server is not running.": "vLLM サーバーは動いていません。",
    "The vLLM server is starting; the run begins when it is there.": "vLLM サーバーを起動しています。準備ができしだい始まります。",
    "The vLLM server is stopping; the run begins, with a server of its own, when it has.": "vLLM サーバーを停止しています。止まりしだい、専用のサーバーを起動して始まります。",
    "An adapter has rank {rank} and the server was started for {most} at most; stop it and start it again.": "ランク {rank} のアダプターがありますが、サーバーは {most} までの設定で起動しています。停止して、起動し直してください。",
    "vLLM does not know the model's architecture {name}; choose another model, or use the transformers engine.": "vLLM はモデルの構造 {name} に対応していません。別のモデルを選ぶか、transformers エンジンを使ってください。",
    "The model brings code of its own, which is never run here; choose a model that vLLM knows.": "独自のコードを伴うモデルです。ここでは実行しないので、vLLM が対応するモデルを選んでください。",
    "vLLM refuses its options ({problem}); change PLAYGROUND_VLLM_ARGS.": "vLLM が起動オプションを拒みました（{problem}）。PLAYGROUND_VLLM_ARGS を直してください。",
    "The model takes fewer than {tokens} tokens; lower --max-model-len in PLAYGROUND_VLLM_ARGS, or PLAYGROUND_MAX_CONTEXT.": "モデルが扱えるのは {tokens} トークン未満です。PLAYGROUND_VLLM_ARGS の --max-model-len か PLAYGROUND_MAX_CONTEXT を下げてください。",
    "The memory does not suffice ({problem}); end other programs, lower PLAYGROUND_MAX_CONTEXT, or take a smaller model.": "メモリが足りません（{problem}）。ほかのプログラムを終了するか、PLAYGROUND_MAX_CONTEXT を下げるか、小さいモデルを選んでください。",
    "Another program took the server's port in the moment of the start; start it again.": "起動の瞬間に、ほかのプログラムがポートを取りました。起動し直してください。",
    "An adapter cannot be served ({problem}); delete it or train it again.": "サーバーで使えないアダプターがあります（{problem}）。削除するか、学習し直してください。",
    "This CPU lacks instructions that vLLM was built for ({problem}); use the transformers engine.": "この CPU には vLLM が使う命令がありません（{problem}）。transformers エンジンを使ってください。",
    "vLLM's environment is broken ({problem}); build it anew: rm -rf .venv-vllm && make vllm.": "vLLM の環境が壊れています（{problem}）。rm -rf .venv-vllm && make vllm で作り直してください。",
    "Adapter {name} cannot be loaded into a server that somebody else runs.": "ほかの人が動かしているサーバーには、アダプター {name} を読み込めません。",
    "The server at {origin} serves {root}, not {folder}; name its models as vllm:NAME, or start it with that folder.": "{origin} のサーバーが出しているのは {root} で、{folder} ではありません。vllm:NAME の形で指定するか、そのフォルダーで起動し直してください。",
    "Adapter {name} was changed while it was loaded; ask again.": "アダプター {name} は読み込みの途中で変わりました。もう一度送ってください。",
    "The server at {origin} does not load adapters while it runs; start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment.": "{origin} のサーバーは実行中のアダプターの読み込みを受け付けません。環境変数 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True と --enable-lora を付けて起動してください。",
    "Adapter {name}: the server at {origin} cannot use it ({problem}).": "アダプター {name}: {origin} のサーバーでは使えません（{problem}）。",
    "No vLLM server answers at {where}; start it, or check PLAYGROUND_VLLM_URL and its key.": "{where} の vLLM サーバーが応答しません。起動するか、PLAYGROUND_VLLM_URL とキーを確かめてください。",
    "{model} answered as {identity}, which is not what this run was made for; the adapter or the checkpoint was replaced meanwhile. Start a new run.": "{model} の識別子が {identity} になり、この実行を作ったときと違います。途中でアダプターか重みが差し替えられました。新しく実行してください。",
    "{model} failed {times} times in a row: {problem} What was answered is kept; resume the run when this is mended.": "{model} が {times} 回続けて失敗しました: {problem} 済んだ回答は残っています。原因を除いてから再開してください。",
    # judges
    "The embedded judge's head {file} is missing; run `train --preset embedded-judge`.": "内蔵の採点者の {file} がありません。`train --preset embedded-judge` を実行してください。",
    "The judge {judge} at {origin} needs an API key; enter one in the settings.": "{origin} の採点者 {judge} には API キーが必要です。設定に入れてください。",
    "The API key for {origin} has characters no key has; copy it again.": "{origin} の API キーに、キーでは使わない文字があります。コピーし直してください。",
    "{where} has no quota left (429); add credit there and start again.": "{where} の利用枠が残っていません（429）。枠を追加してから、やり直してください。",
    "{where} answered with a redirect ({status}), and a key is not sent on; set the base URL to its final address.": "{where} が転送を返しました（{status}）。キーは転送先へは送りません。ベース URL を最終的なアドレスにしてください。",
    "{where} refused the API key ({status}); check the key and its rights.": "{where} が API キーを拒みました（{status}）。キーと権限を確かめてください。",
    "{where} does not exist (404); check the model's name and that the base URL ends in /v1.": "{where} が見つかりません（404）。モデル名と、ベース URL が /v1 で終わることを確かめてください。",
    "{where} rejected the request ({status}){said}; change the judge's settings.": "{where} がリクエストを拒みました（{status}）{said}。採点者の設定を変えてください。",
    "The judge's base URL cannot be read; it should look like https://host/v1.": "採点者のベース URL を読み取れません。https://host/v1 の形にしてください。",
    "The judge's base URL must start with https:// or http:// and name a host.": "採点者のベース URL は https:// か http:// で始め、ホスト名を入れてください。",
    "The judge's base URL must not hold a user, a query or a fragment; give the key apart.": "採点者のベース URL に、ユーザー名、? や # 以降は入れられません。キーは別に指定してください。",
    "The judge {judge} scores {can}, not {scale}; choose openai:MODEL, or suites with other metrics.": "採点者 {judge} が採点できるのは {can} で、{scale} は採点できません。openai:MODEL か、別の質問セットを選んでください。",
    "The judge {judge} scores {can}, not {scale}; multiple choice is scored by the rule rule:choice.": "採点者 {judge} が採点できるのは {can} です。選択問題は rule:choice が採点します。",
    # the index, the disk, runs
    "{path} cannot be written: {problem}. {step}, then try again; what was written before is intact.": "{path} に書き込めません（{problem}）。{step}、もう一度お試しください。これまでの内容は無事です。",
    "{folder} cannot be written: no space left on device. Free some space there, then try again; what was written before is intact.": "{folder} に書き込めません（空きがありません）。空きを作って、もう一度お試しください。これまでの内容は無事です。",
    "{path} cannot be written: the disk is full. Free some space; no run is lost, the index catches up by itself.": "ディスクがいっぱいで {path} に書き込めません。空きを作ってください。実行の記録は失われず、索引はあとで追いつきます。",
    "{path} is open in {who}. Close that program (or use it), then try again; one can have it open.": "{path} は {who} が開いています。同時に開けるのはひとつだけです。そちらを閉じてから、もう一度お試しください。",
    "{path} is not a file this user may read and write. Move it and start again.": "{path} を読み書きする権限がありません。別の場所へ移してから、起動し直してください。",
    "{path} cannot be created. Check the rights of {folder}.": "{path} を作れません。{folder} の権限を確かめてください。",
    "{path} fails again after a rebuild. Check the disk it is on.": "{path} は作り直しても失敗します。ディスクを確かめてください。",
    "{file} cannot be read: {problem}. Check its rights.": "{file} を読めません（{problem}）。権限を確かめてください。",
    "{file} cannot be read: {problem}. Check the folder's name and rights.": "{file} を読めません（{problem}）。フォルダーの名前と権限を確かめてください。",
    "{file} is damaged ({problem}). Restore it or remove the folder.": "{file} が壊れています（{problem}）。元に戻すか、フォルダーを削除してください。",
    "{file} has schema version {theirs}, newer than {ours}. Update this program.": "{file} の形式の版は {theirs} で、このプログラムの {ours} より新しいものです。プログラムを更新してください。",
    "{path} is being written by process {holder}. Wait until that run ends or cancel it, then try again.": "{path} はプロセス {holder} が書き込み中です。終わるのを待つか中止してから、もう一度お試しください。",
    "There is no conversation {conversation}. Start a new one.": "会話 {conversation} はありません。新しく始めてください。",
    "There is no run {run}; `python -m playground runs list` shows them.": "実行 {run} はありません。`python -m playground runs list` で確かめられます。",
    "Run {run} is {status}; there is nothing to cancel.": "実行 {run} は{status}なので、止めるものがありません。",
    "Run {run} is finished, so there is nothing to resume; start a new one.": "実行 {run} は終わっているので、再開できません。新しく始めてください。",
    "Run {run} is {status}, so there is nothing to resume; {advice}.": "実行 {run} は{status}なので、再開できません。{advice}。",
    "{device} is in use by {holder}.": "{device} は {holder} が使っています。",
    "{device} goes to {first}, which waits for it.": "{device} は、待っている {first} が先に使います。",
    "{what} is not what run {run} was made with; start a new run.": "{what} は、実行 {run} を作ったときのものと違います。新しく実行してください。",
    "The GPU's memory ran out ({problem}). Lower micro_batch_size or max_length, or set gradient_checkpointing, and start a new run.": "GPU のメモリが足りなくなりました（{problem}）。同時に計算する行数か 1 行の長さを下げるか、「メモリを節約する」を選んで、新しく実行してください。",
    # benchmarks
    "{what}: there is no setting {names}; leave it out.": "{what}: 設定 {names} はありません。外してください。",
    "{what}: {problem}; correct it and start again.": "{what}: {problem}。直してから、もう一度実行してください。",
    "{name} is {value}; it must be {rule}.": "{name} の値 {value} は使えません。{rule}にしてください。",
    "{name} is {value}; it must be {rule}. Change it in the settings and start again.": "{name} の値 {value} は使えません。{rule}にして、もう一度実行してください。",
    "attempts is {attempts} at temperature 0, where every attempt gives the same response; raise the temperature or set attempts to 1.": "温度 0 では何度答えさせても同じ回答になります（回答の回数は {attempts}）。温度を上げるか、回数を 1 にしてください。",
    "spend_cap_usd is {value}; it must be 0 or more, in dollars.": "費用の上限 {value} は使えません。0 以上の金額（米ドル）にしてください。",
    "A spend cap needs a price that is known; leave the cap out for this endpoint.": "単価がわからない接続先なので、費用の上限は付けられません。上限を空にしてください。",
    "The price of {name} at {origin} is not known, so a spend cap cannot be kept; leave the cap out.": "{origin} の {name} の単価がわからないため、費用の上限を守れません。上限を空にしてください。",
    "{before}the next call may cost ${worst}, and ${spent} of the spend cap of ${cap} are used; raise the cap to go on.": "次の呼び出しで最大 ${worst} かかりますが、費用の上限 ${cap} のうち ${spent} を使いました。続けるには上限を上げてください。",
    "{one} and {other} both have a prompt {prompt}, with different questions; benchmark them in separate runs.": "{one} と {other} の両方に {prompt} という質問があり、内容が違います。別々に実行してください。",
    "There is no prompt in {suites}; choose another suite.": "{suites} に質問がありません。別の質問セットを選んでください。",
    "{model} and {twin} are the same weights ({digest}); choose one of them.": "{model} と {twin} は同じ重みです（{digest}）。どちらか一方を選んでください。",
    "There is no run, suite or file {source}; `runs list` and `suites` show what there is.": "{source} という実行、質問セット、ファイルはありません。`runs list` と `suites` で確かめられます。",
    "{source} has no responses to judge; `bench --suite {suite}` lets models answer first.": "{source} には採点する回答がありません。先に `bench --suite {suite}` で回答を作ってください。",
    "{source} has {now} responses now and had {then} when this run was made; start a new run.": "{source} の回答は、この実行を作ったときの {then} 件から {now} 件に変わりました。新しく実行してください。",
    # signing in
    "Too many wrong passwords; try again in {seconds} s.": "パスワードの間違いが続きました。{seconds} 秒後に、もう一度お試しください。",
    # SQL
    "The query has {length} characters; {most} are the most. Shorten it.": "SQL が {length} 文字あります。{most} 文字までに短くしてください。",
    "The query took more than {seconds} s and was stopped. Ask for less.": "{seconds} 秒を超えたため、止めました。調べる範囲を狭めてください。",
    "Write one SELECT statement; the index can be read here and not changed.": "SELECT 文をひとつだけ書いてください。索引は読み取り専用です。",
    # suites
    "There is no suite {name}; there are {known}.": "質問セット {name} はありません。あるのは {known} です。",
    "{path} is missing; import the suite, or install the project, again.": "{path} がありません。質問セットを取り込み直すか、プログラムを入れ直してください。",
    "{path} is damaged; delete its folder and import the suite again.": "{path} が壊れています。フォルダーを削除して、質問セットを取り込み直してください。",
    "{folder} holds a malformed row; delete the folder and import the suite again.": "{folder} に形の崩れた行があります。フォルダーを削除して、質問セットを取り込み直してください。",
    # trainings
    "A sweep changes how often safety rows are repeated; choose safety data first.": "倍率を変えた比較には安全データが要ります。先に選んでください。",
    "The name {name} is taken, or a run is making it; choose another name.": "{name} という名前は使われているか、いま学習中です。別の名前にしてください。",
    "There is already an adapter {name} in {folder}; rename one of the two.": "{folder} にはすでにアダプター {name} があります。どちらかの名前を変えてください。",
    "There is no preset {name}; choose one of {known}.": "プリセット {name} はありません。{known} から選んでください。",
    "base is {base}; it must be embedded, hub:ORG/NAME or a folder with a transformers model.": "ベースモデル {base} は使えません。embedded、hub:ORG/NAME、または transformers 形式のフォルダーを指定してください。",
    "method is qlora, which needs a CUDA device, and there is none here; use lora.": "qlora には CUDA の GPU が要りますが、ここにはありません。lora を選んでください。",
    "method is qlora, which needs bitsandbytes; run `pip install bitsandbytes` or use lora.": "qlora には bitsandbytes が要ります。`pip install bitsandbytes` を実行するか、lora を選んでください。",
    "Base {base} has {changes}, a change to its logits that this trainer's loss does not make; choose another.": "{base} は {changes} でロジットを変えるため、この学習の損失では扱えません。別のモデルを選んでください。",
    "Base {base} has no plain output layer, which the loss needs; choose another.": "{base} には損失の計算に要る出力層がありません。別のモデルを選んでください。",
    "A conversation to continue must end with a user message.": "続きを書かせる会話は、ユーザーの発言で終わっている必要があります。",
    "This model's chat template rewrites earlier turns, so the trained tokens cannot be told apart; train on single-turn conversations with it.": "このモデルのチャットテンプレートは前の発言を書き換えるため、学習する部分を見分けられません。一問一答のデータで学習してください。",
    "This model's chat template refuses the conversation ({problem}); leave out the system prompt or what it names.": "このモデルのチャットテンプレートでは扱えない会話です（{problem}）。システムプロンプトか、挙げられた部分を外してください。",
    "This model's tokenizer has no end-of-text token, so no reply could end; choose another.": "このモデルには文の終わりを示すトークンがなく、回答が終われません。別のモデルを選んでください。",
    "The {what} have changed since step {step} was saved; put them back or start a new run.": "ステップ {step} を保存したあとで {what} が変わりました。元に戻すか、新しく実行してください。",
    "The {what} is {value} at step {step}; lower learning_rate and start a new run.": "ステップ {step} で {what} が {value} になりました。学習率を下げて、新しく実行してください。",
    "Suite {suite} has no rows to train on; choose another or import rows into it.": "{suite} に学習できる行がありません。別のデータを選ぶか、行を取り込んでください。",
    "Suite {suite} has no rows to measure the loss on; take it out of held_out.": "{suite} に損失を測れる行がありません。「損失を測るデータ」から外してください。",
    "Row {row} of {suite} has {tokens} tokens, over max_length {most}; raise max_length, set leave_out_long, or shorten the row.": "{suite} の行 {row} は {tokens} トークンで、上限の {most} を超えます。上限を上げるか、「長すぎる行は除く」を選ぶか、行を短くしてください。",
    "Row {row} of {suite} has no reference response to learn; remove it or add one.": "{suite} の行 {row} には、学習する参照回答がありません。行を外すか、参照回答を加えてください。",
    "Row {row} of {suite} has an empty response; remove the row or fill it.": "{suite} の行 {row} の回答が空です。行を外すか、回答を入れてください。",
    'Rows of {suite} are test questions of {tested}, or nearly: {rows}; remove them from {again}, or train on them knowingly with "allow_overlap": ["{name}"].': "{suite} に、テスト用の {tested} と同じか、よく似た質問があります: {rows}。{again} から外すか、承知のうえで学習するなら「重なりを承知で学習してよいテスト」に {name} を加えてください。",
    "{suite} is so small that none of its rows is held out; its loss is not measured.": "{suite} は行が少なく、学習から外す行がないため、損失を測りません。",
    "{count} rows of {suite} are over {most} tokens and are left out.": "{suite} のうち {most} トークンを超える {count} 行は除きます。",
    # adapters
    "Nothing is named to import; give a folder, a .zip file or hub:ORG/NAME.": "取り込むものが空です。フォルダー、.zip ファイル、または hub:ORG/NAME を入力してください。",
    "{source} is a link; name the folder itself.": "{source} はリンクです。フォルダーそのものを指定してください。",
    "{source} is neither a folder nor a .zip file nor a hub id (hub:ORG/NAME).": "{source} はフォルダーでも .zip ファイルでも Hub の ID（hub:ORG/NAME）でもありません。",
    "{file} is a link or cannot be read ({problem}); put the file itself there.": "{file} はリンクか、読めないファイルです（{problem}）。ファイルそのものを置いてください。",
    "{file} is no plain file.": "{file} は通常のファイルではありません。",
    "{archive} holds a link or a path that leads outside it.": "{archive} に、リンクか、外を指すパスがあります。",
    "{archive} holds {file} twice; pack one adapter alone.": "{archive} に {file} が 2 つあります。アダプターをひとつだけ入れてください。",
    "{archive} cannot be unpacked ({problem}); pack it again, without password.": "{archive} を展開できません（{problem}）。パスワードなしで作り直してください。",
    "{file} is over {most} KiB; that is not a LoRA adapter's.": "{file} が {most} KiB を超えています。LoRA のアダプターではありません。",
    "{archive} cannot be unpacked: it is no plain zip, or its list of entries is over {most} KiB. Pack the adapter's files alone.": "{archive} を展開できません。通常の zip でないか、一覧が {most} KiB を超えています。アダプターのファイルだけを入れてください。",
    "{file} is a hard link; put a copy of the file there.": "{file} はハードリンクです。ファイルのコピーを置いてください。",
    "{archive} is packed in a rare way; pack it as a usual zip.": "{archive} は特殊な圧縮方式です。通常の zip にしてください。",
    "{table} has a {column} of {value}, which Parquet cannot hold; export as csv or jsonl.": "{table} の {column} の値 {value} は Parquet に収まりません。csv か jsonl で書き出してください。",
    "{to} is there already; name a new file or folder.": "{to} はすでにあります。新しい名前を付けてください。",
    "{where} refused the key; check it in .env.": "{where} がキーを拒みました。.env を確かめてください。",
    "{file} is over {most} MiB; that is not a LoRA adapter's.": "{file} が {most} MiB を超えています。LoRA のアダプターではありません。",
    "It has adapter_model.bin, a pickle, which can run code when it is read; only safetensors are taken. Ask its maker for adapter_model.safetensors.": "adapter_model.bin（pickle）は、読むだけでコードが動くおそれがあるため受け取りません。作成者に adapter_model.safetensors を求めてください。",
    "Adapter {name} is for {theirs}; only adapters of the embedded Gemma 3 270M can be used here. If it is one, say so: base_model_name_or_path in its {config}, like google/gemma-3-270m.": "アダプター {name} は {theirs} 向けです。ここで使えるのは内蔵の Gemma 3 270M 向けだけです。実際にそうなら、{config} の base_model_name_or_path を google/gemma-3-270m のように直してください。",
    "Adapter {name} changes {layer}, which the embedded base does not have in that shape.": "アダプター {name} は {layer} を変えますが、内蔵モデルにその形の層はありません。",
    "Adapter {name} changes nothing: it was never trained.": "アダプター {name} は何も変えません。学習されていません。",
    "Adapter {name} changes {layer}, which this base does not have: wrong base?": "アダプター {name} は {layer} を変えますが、このモデルにはありません。別のモデル向けではありませんか。",
    "Adapter {name}: the shape of {layer} does not fit this base: wrong base?": "アダプター {name}: {layer} の形がこのモデルに合いません。別のモデル向けではありませんか。",
    "Adapter {name}: {file} is missing in {folder}; an adapter folder needs both files.": "アダプター {name}: {folder} に {file} がありません。両方のファイルが要ります。",
    "Adapter {name}: {file} cannot be read ({problem}); copy it again.": "アダプター {name}: {file} を読めません（{problem}）。コピーし直してください。",
    "Adapter {name}: {problem}": "アダプター {name}: {problem}",
    "There is no adapter {name} here; `python -m playground adapters list` shows them.": "アダプター {name} はここにありません。",
    "An adapter cannot be named {name}; use up to {most} of a-z, 0-9, dot, hyphen and underscore, not beginning with a dot, and not base.": "アダプターに {name} という名前は付けられません。a-z、0-9、ドット、ハイフン、下線で {most} 文字まで、先頭はドット以外、base 以外にしてください。",
    "There is already an adapter {name}; choose another name, or delete that one first.": "アダプター {name} はすでにあります。別の名前にするか、先に削除してください。",
    "Adapter {name} is shipped with this program; it can be neither renamed nor deleted.": "アダプター {name} は同梱のものなので、名前の変更も削除もできません。",
    "{repository} is no hub id; write it as ORG/NAME.": "{repository} は Hub の ID ではありません。ORG/NAME の形で入力してください。",
    "Pushing needs a token that may write; put HF_TOKEN in .env and start again.": "送るには書き込みのできるトークンが要ります。.env に HF_TOKEN を書き、起動し直してください。",
    "{repository} is gated; request access on https://huggingface.co/{page} and put HF_TOKEN in .env.": "{repository} は利用申請が必要です。https://huggingface.co/{page} で申請し、.env に HF_TOKEN を書いてください。",
    "There is no {repository} on the hub that this token can see; check it.": "このトークンで見える {repository} は Hub にありません。確かめてください。",
    "The hub refused {repository}: HF_TOKEN in .env must be one that may do this.": "Hub が {repository} を拒みました。.env の HF_TOKEN に必要な権限があるか確かめてください。",
    "The hub failed on {repository} ({problem}); try again later.": "Hub で {repository} の処理に失敗しました（{problem}）。時間をおいて、もう一度お試しください。",
    "{repository} cannot be reached on the hub ({problem}); check the network.": "Hub の {repository} につながりません（{problem}）。ネットワークを確かめてください。",
}

# What may stand in a value: the rules of settings, states of runs.
PHRASES: dict[str, str] = {
    "The form": "入力",
    "another run": "別の実行",
    "gives no answer": "応答しない",
    "says nothing in its log": "ログに何も書かない",
    "{problem}; nvidia-smi is not there": "{problem}、nvidia-smi がありません",
    "Free some space there": "空きを作って",
    "Check that this user may write there, or set PLAYGROUND_HOME": "書き込みの権限を確かめるか PLAYGROUND_HOME を設定して",
    "one or more model ids, each once": "モデルを 1 つ以上、重複なし",
    "one or more suites, each once": "質問セットを 1 つ以上、重複なし",
    "a judge's id, or null to only answer": "採点者の ID（回答だけなら空）",
    "1 or more, or null for all": "1 以上（全部なら空）",
    "0 or more, in dollars": "0 以上の金額（米ドル）",
    "of a-z 0-9 . _ -": "a-z 0-9 . _ - だけ",
    "other than base, which means no adapter": "base（アダプターなし）以外",
    "multiplied by 0 or more": "倍率を 0 以上",
    "at least one suite, multiplied by 1 or more": "倍率 1 以上のデータを 1 つ以上",
    "without a suite named twice; raise its multiplier": "同じデータは 1 回だけ（増やすなら倍率）",
    "0 up to learning_rate": "0 から学習率まで",
    "16 tokens or more": "16 トークン以上",
    "false with qlora, whose 4-bit base is copied": "qlora では false",
    "start a new one": "新しく始めてください",
    "it starts by itself while the app runs": "アプリの実行中に自動で始まります",
    "cancel it first": "先に止めてください",
    "queued": "順番待ち",
    "running": "実行中",
    "stopping": "停止処理中",
    "finished": "完了",
    "failed": "失敗",
    "cancelled": "中止",
    "lost": "中断",
    "{low} to {high}": "{low} から {high} まで",
    "{low} or more": "{low} 以上",
    "above {low}, up to {high}": "{low} より大きく {high} 以下",
    "above {low} and below {high}": "{low} より大きく {high} 未満",
    "{low} or more and below {high}": "{low} 以上 {high} 未満",
}

LONGEST = 2_000  # characters of a line that is looked up; the search is not linear

_FIELD = re.compile(r"\{(\w+)\}")


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Both tables as patterns, those with the most words of their own first: they say more exactly what is meant."""
    found = []
    for english, japanese in (FORMS | PHRASES).items():
        pieces = _FIELD.split(english)
        words = "".join(
            re.escape(piece)
            if place % 2 == 0
            else f"(?P<{piece}>.*)"
            if piece in ("before", "said")
            else f"(?P<{piece}>.+?)"
            for place, piece in enumerate(pieces)
        )
        found.append((sum(map(len, pieces[::2])), re.compile(words, re.DOTALL), japanese))
    found.sort(key=lambda row: -row[0])
    return tuple((pattern, japanese) for _, pattern, japanese in found)


def line_for(error: object, language: str) -> str:
    """The line for a reader of that language: in Japanese where there is a form for it, else as it is."""
    words = str(error)
    return words if language == "en" or len(words) > LONGEST else _in_japanese(words)


def _in_japanese(words: str) -> str:
    for pattern, japanese in _patterns():
        if found := pattern.fullmatch(words):
            return japanese.format(**{name: _in_japanese(value) for name, value in found.groupdict().items()})
    return words
