"""Sentences about who may do what, how much, and what is kept."""

from __future__ import annotations

ACCESS: dict[str, tuple[str, str]] = {
    "access.denied": (
        "この操作をする権限がありません。権限のあるユーザーでログインしてください。",
        "Your role does not allow this. Sign in as a user who may do it.",
    ),
    "access.absent": (
        "この構成では、この操作はできません。",
        "This profile of the app does not offer that.",
    ),
    "access.name": ("ユーザー名", "User name"),
    "access.password": ("パスワード", "Password"),
    "access.wrong": ("ユーザー名かパスワードが違います。", "The user name or the password is wrong."),
    "access.signed_in": ("{name}（{role}）", "{name} ({role})"),
    "access.role.visitor": ("閲覧者", "visitor"),
    "access.role.rater": ("評価者", "rater"),
    "access.role.operator": ("運用者", "operator"),
    "access.role.owner": ("管理者", "owner"),
    "access.sign_in": ("ログイン", "Sign in"),
    "access.sign_in_hub": ("Hugging Face でログイン", "Sign in with Hugging Face"),
    "access.sign_out": ("ログアウト", "Sign out"),
    "limit.rate": (
        "{whose}送れるのは 1 分に {limit} 回までです。{seconds} 秒後にもう一度お試しください。",
        "Only {limit} requests a minute {whose}. Try again in {seconds} s.",
    ),
    "limit.whose.user": ("1 人が", "for each user"),
    "limit.whose.address": ("同じネットワークから", "from one network address"),
    "limit.tokens": (
        "最大トークン数は {limit} までです（指定は {asked}）。小さくしてください。",
        "max tokens may be {limit} at most here; you asked for {asked}. Lower it.",
    ),
    "limit.tokens.day": (
        "公開デモで今日生成できる量を使い切りました。あと {hours} 時間 {minutes} 分（協定世界時の 0 時）で、また使えます。",
        "Today's tokens for visitors are used up. They begin anew in {hours} h {minutes} min (00:00 UTC).",
    ),
    "limit.spend.day": (
        "公開デモの今日の有料枠を使い切りました。あと {hours} 時間 {minutes} 分（協定世界時の 0 時）で、また使えます。内蔵の採点者は今も使えます。",
        "Today's budget for paid models is used up for visitors. It begins anew in {hours} h {minutes} min (00:00 UTC). The embedded judge still works.",
    ),
    "limit.price": (
        "このモデルは料金がわからないため、公開デモでは使えません。別のモデルを選んでください。",
        "What this model costs is not known, so visitors cannot use it. Choose another.",
    ),
    "privacy.session": (
        "ここに出るのは、この画面を開いてからのあなたの会話だけです。ほかの人には見えず、画面を閉じると約 {minutes} 分後に削除されます。",
        "You see only your own conversations since you opened this page. Nobody else does, and they are deleted about {minutes} minutes after you close it.",
    ),
    "privacy.kept": (
        "会話はこのサーバーに保存され、削除するまで残ります。",
        "Conversations are kept on this server until somebody deletes them.",
    ),
    "privacy.retention": (
        "会話はこのサーバーに保存され、{days} 日後に自動で削除されます。",
        "Conversations are kept on this server and deleted automatically after {days} days.",
    ),
    "privacy.purge": ("会話をすべて削除", "Delete all conversations"),
    "privacy.purge.mine": ("自分の会話をすべて削除", "Delete all my conversations"),
    "privacy.confirm": (
        "ここに出ている会話を、回答・採点・投票ごとすべて削除します。元には戻せません。よろしいですか。",
        "This deletes every conversation shown here with its replies, verdicts and votes. It cannot be undone. Go ahead?",
    ),
    "privacy.purged": ("{count} 件の会話を削除しました。", "{count} conversations deleted."),
    "privacy.consent": (
        "投票すると、この会話の質問、両方の回答、採点、投票が保存され、モデルの安全性の改善に使われます。このことに同意します。名前や接続元は残りません。"
        "あとから削除できないため、個人情報を書いた会話では投票しないでください。",
        "When I vote, this conversation's questions, both replies, their verdicts and my vote may be kept and used to make models safer. "
        "No name and no address is kept with them. They cannot be withdrawn afterwards, so do not vote on a conversation with personal data in it.",
    ),
    "error.consent": (
        "投票する前に、投票ボタンの下の説明を読み、同意の欄にチェックを入れてください。",
        "Before you vote, read the note below the buttons and tick it.",
    ),
}
