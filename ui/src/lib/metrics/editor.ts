// The PromQL editor: CodeMirror with Prometheus' own grammar, completion and linter. A lazy chunk, by
// far the largest one. It lives in a shadow root, because there CodeMirror hands its styles over as
// constructed sheets; in the document it would write <style> elements, which our policy forbids.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { EditorState, Prec } from '@codemirror/state';
import { drawSelection, EditorView, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { PromQLExtension } from '@prometheus-io/codemirror-promql';
import { apiUrl } from '../api/client';

const theme = EditorView.theme({
  '&': { fontSize: '13px', backgroundColor: 'transparent', color: 'var(--ink)' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '20px', maxHeight: '200px' },
  '.cm-content': { padding: '5px 0', caretColor: 'var(--ink)' },
  '.cm-line': { padding: '0 10px' },
  '.cm-cursor': { borderLeftColor: 'var(--ink)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--focus)' },
  '.cm-placeholder': { color: 'var(--ink-3)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--accent-wash)', outline: '1px solid var(--accent)' },
  '&.cm-focused .cm-nonmatchingBracket': { backgroundColor: 'var(--error-wash)' },
  '.cm-tooltip': {
    border: '1px solid var(--line-strong)',
    borderRadius: '6px',
    backgroundColor: 'var(--surface)',
    color: 'var(--ink)',
    boxShadow: 'var(--shadow)',
    overflow: 'hidden',
  },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--mono)', fontSize: '12px', maxHeight: '280px', padding: '3px' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li': { padding: '2px 8px', borderRadius: '4px', lineHeight: '18px' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent-wash)', color: 'var(--accent-strong)' },
  '.cm-completionIcon': { display: 'none' },
  '.cm-completionMatchedText': { textDecoration: 'none', fontWeight: '700' },
  '.cm-completionDetail': { marginLeft: '12px', float: 'right', fontStyle: 'normal', color: 'var(--ink-3)', fontFamily: 'var(--font)' },
  '.cm-tooltip.cm-completionInfo': { padding: '6px 9px', marginLeft: '4px', maxWidth: '340px', font: '12px/1.45 var(--font)', color: 'var(--ink-2)' },
  '.cm-diagnostic': { padding: '4px 9px', borderLeft: '3px solid var(--error)', font: '12px/1.45 var(--font)' },
  '.cm-lintRange-error': { backgroundImage: 'none', textDecoration: 'underline wavy var(--error) 1px', textUnderlineOffset: '3px' },
  '.cm-lintRange-warning': { backgroundImage: 'none', textDecoration: 'underline wavy var(--warn) 1px', textUnderlineOffset: '3px' },
});

const colors = HighlightStyle.define([
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: tags.string, color: 'var(--code-string)' },
  { tag: tags.keyword, color: 'var(--code-keyword)' },
  { tag: tags.function(tags.variableName), color: 'var(--code-function)' },
  { tag: tags.labelName, color: 'var(--code-label)' },
  { tag: tags.operator, color: 'var(--ink-2)' },
  { tag: tags.operatorKeyword, color: 'var(--code-keyword)' },
  { tag: tags.modifier, color: 'var(--code-keyword)' },
  { tag: [tags.paren, tags.squareBracket, tags.brace], color: 'var(--ink-2)' },
  { tag: tags.comment, color: 'var(--ink-3)', fontStyle: 'italic' },
  { tag: tags.invalid, color: 'var(--error)' },
]);

export interface PromqlEditor {
  setText(text: string): void;
  focus(): void;
  destroy(): void;
}

/** Mounts an editor below `host`. `onchange` gets every edit, `onrun` Ctrl+Enter (and plain Enter; Shift+Enter breaks the line). */
export function createEditor(host: HTMLElement, text: string, onchange: (text: string) => void, onrun: () => void): PromqlEditor {
  const root = host.attachShadow({ mode: 'open' });
  const promql = new PromQLExtension().setComplete({
    remote: {
      url: apiUrl('').replace(/\/$/, ''),
      httpMethod: 'GET',
      fetchFn: (input, init) => fetch(input, { ...init, credentials: 'same-origin' }),
      // The page says what is wrong with the server; a missing completion need not.
      httpErrorHandler: () => undefined,
    },
  });
  const run = (view: EditorView): boolean => {
    // Suggestions that are open, or still on their way, would cover the result.
    closeCompletion(view);
    onrun();
    return true;
  };
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        history(),
        drawSelection(),
        indentOnInput(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ icons: false, maxRenderedOptions: 200 }),
        promql.asExtension(),
        syntaxHighlighting(colors),
        theme,
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ 'aria-label': 'PromQL expression', spellcheck: 'false', autocapitalize: 'off' }),
        placeholder('PromQL expression – press Ctrl+Space for suggestions'),
        Prec.highest(
          keymap.of([
            { key: 'Mod-Enter', run },
            { key: 'Tab', run: acceptCompletion },
          ]),
        ),
        keymap.of([...closeBracketsKeymap, ...completionKeymap, { key: 'Enter', run }, ...historyKeymap, ...defaultKeymap]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onchange(update.state.doc.toString());
        }),
      ],
    }),
  });
  return {
    setText(next) {
      const known = view.state.doc.toString();
      if (known !== next) view.dispatch({ changes: { from: 0, to: known.length, insert: next }, selection: { anchor: next.length } });
    },
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}
