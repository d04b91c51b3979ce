"""Our look as Gradio theme tokens; assets/app.css adds the layout and uses these tokens only, in both themes."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

# Deep indigo for what acts, teal for what is safe, warm paper behind it; slate in the dark.
INDIGO = colors.Color(
    name="indigo-ink", c50="#f1f2fa", c100="#e2e5f5", c200="#c6cbeb", c300="#a3abdd", c400="#7c86c9", c500="#5863b0",
    c600="#434d96", c700="#343d7c", c800="#2a3164", c900="#20264d", c950="#161a36",
)  # fmt: skip
TEAL = colors.Color(
    name="teal-leaf", c50="#ecf7f5", c100="#d3ece9", c200="#a8d9d4", c300="#79c3bd", c400="#48a7a0", c500="#268a84",
    c600="#17706c", c700="#135b58", c800="#124947", c900="#103c3b", c950="#082424",
)  # fmt: skip
PAPER = colors.Color(
    name="paper-slate", c50="#faf7f2", c100="#f3eee5", c200="#e5ded1", c300="#cfc6b6", c400="#8f94a3", c500="#6a7083",
    c600="#4b5266", c700="#333b4d", c800="#232a39", c900="#191f2b", c950="#11161f",
)  # fmt: skip
# System fonts only: nothing is fetched from outside. The first three are the Japanese faces of macOS, Linux and Windows.
FONT = ("Hiragino Sans", "Noto Sans JP", "Noto Sans CJK JP", "Yu Gothic UI", "Meiryo", "system-ui", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono CJK JP", "monospace")


class PlaygroundTheme(gr.themes.Base):
    """Calm, roomy, readable: AA contrast for text in both themes."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=INDIGO,
            secondary_hue=TEAL,
            neutral_hue=PAPER,
            text_size=sizes.text_lg,
            spacing_size=sizes.spacing_lg,
            radius_size=sizes.radius_lg,
            font=FONT,
            font_mono=MONO,
        )
        self.name = "answercarefully-playground"
        self.set(
            body_background_fill="#faf7f2",
            body_background_fill_dark="#11161f",
            body_text_color="#1f2437",
            body_text_color_dark="#e7e9ef",
            body_text_color_subdued="#5b6075",
            body_text_color_subdued_dark="#a4abbd",
            background_fill_primary="#fffdfa",
            background_fill_primary_dark="#191f2b",
            background_fill_secondary="#f3eee5",
            background_fill_secondary_dark="#232a39",
            border_color_primary="#e0d8ca",
            border_color_primary_dark="#333b4d",
            border_color_accent="*primary_400",
            border_color_accent_dark="*primary_400",
            color_accent="*primary_600",
            color_accent_soft="*primary_100",
            color_accent_soft_dark="*primary_900",
            link_text_color="*primary_600",
            link_text_color_dark="*primary_300",
            block_background_fill="transparent",
            block_background_fill_dark="transparent",
            block_border_width="0px",
            block_border_width_dark="0px",
            block_shadow="none",
            block_shadow_dark="none",
            block_padding="0",
            block_label_background_fill="transparent",
            block_label_background_fill_dark="transparent",
            block_label_text_color="*body_text_color_subdued",
            block_label_text_color_dark="*body_text_color_subdued",
            block_title_text_color="*body_text_color_subdued",
            block_title_text_color_dark="*body_text_color_subdued",
            block_title_text_size="*text_sm",
            block_title_text_weight="500",
            block_info_text_color="*body_text_color_subdued",
            block_info_text_color_dark="*body_text_color_subdued",
            input_background_fill="#ffffff",
            input_background_fill_dark="#11161f",
            input_background_fill_focus="#ffffff",
            input_background_fill_focus_dark="#11161f",
            input_border_color="#cfc6b6",
            input_border_color_dark="#4b5266",
            input_border_color_focus="*primary_500",
            input_border_color_focus_dark="*primary_300",
            input_border_width="1px",
            input_shadow="none",
            input_shadow_dark="none",
            input_shadow_focus="0 0 0 3px rgb(88 99 176 / 0.22)",
            input_shadow_focus_dark="0 0 0 3px rgb(163 171 221 / 0.28)",
            input_placeholder_color="#6a7083",
            input_placeholder_color_dark="#8f94a3",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_dark="*primary_300",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_hover_dark="*primary_200",
            button_primary_text_color="#ffffff",
            button_primary_text_color_dark="#161a36",
            button_primary_text_color_hover="#ffffff",
            button_primary_text_color_hover_dark="#161a36",
            button_primary_border_color="*primary_600",
            button_primary_border_color_dark="*primary_300",
            button_secondary_background_fill="#ffffff",
            button_secondary_background_fill_dark="#232a39",
            button_secondary_background_fill_hover="*primary_50",
            button_secondary_background_fill_hover_dark="#333b4d",
            button_secondary_border_color="#cfc6b6",
            button_secondary_border_color_dark="#4b5266",
            button_secondary_border_color_hover="*primary_400",
            button_secondary_border_color_hover_dark="*primary_300",
            button_secondary_text_color="*body_text_color",
            button_secondary_text_color_dark="*body_text_color",
            button_cancel_background_fill="#ffffff",
            button_cancel_background_fill_dark="#232a39",
            button_cancel_background_fill_hover="#fbede8",
            button_cancel_background_fill_hover_dark="#3a211c",
            button_cancel_border_color="#a3341f",
            button_cancel_border_color_dark="#f2a08d",
            button_cancel_text_color="#a3341f",
            button_cancel_text_color_dark="#f2a08d",
            button_large_text_weight="600",
            button_medium_text_weight="500",
            button_small_text_weight="500",
            button_border_width="1px",
            button_border_width_dark="1px",
            button_transition="background-color 0.15s, border-color 0.15s",
            button_large_radius="*radius_lg",
            button_medium_radius="*radius_lg",
            button_small_radius="*radius_md",
            checkbox_background_color_selected="*primary_600",
            checkbox_background_color_selected_dark="*primary_400",
            checkbox_border_color="#8f94a3",
            checkbox_border_color_dark="#6a7083",
            checkbox_label_background_fill="transparent",
            checkbox_label_background_fill_dark="transparent",
            checkbox_label_text_color="*body_text_color",
            checkbox_label_text_color_dark="*body_text_color",
            slider_color="*primary_500",
            slider_color_dark="*primary_300",
            panel_border_width="0px",
            panel_border_width_dark="0px",
            layout_gap="16px",
        )
