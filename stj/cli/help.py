"""The texts of `stj --help` that no verb's function holds."""

HELP = "The self-taught judge: trains LLM judges without human labels, and uses them."
ABOUT = """\
Examples:
  stj run conf:mini          the whole loop in the small world, on two CPU cores
  stj judge pairs.jsonl model=runs/mini/iteration_3/model
  stj COMMAND --help         arguments, options and an example of each command

Settings are written key=value and may stand anywhere after the command.
Results go to stdout, logs and progress to stderr.
Exit codes: 0 done, 1 failed, 2 bad config or usage, 130 interrupted,
143 stopped by SIGTERM.
Read more: docs/start.md
"""
MINI_HELP = """\
Examples:
  stj mini build-seed seed_model
  stj mini build-seed thinking_seed --thinking
"""
SETTINGS = "Single settings, such as seed=3; they may stand anywhere. docs/settings.md lists them."
OWN_SETTINGS = {"agree": "by=, aggregate=, labels= and order=, described below; they may stand anywhere."}
"""The settings of verbs that take no config, by the verb's name."""
WITHOUT_SETTINGS = ("explain", "view")
"""Verbs that take several words, whose help says itself what these are."""
BENCHMARKS_HELP = """\
Benchmarks:
  ppe-human, ppe-correctness, judgebench, rmbench, rewardbench,
  rewardbench2, rewardbench2-ratings, llmbar, mtbench, helpsteer2,
  helpsteer2-helpfulness, hhh, pairs
  headline      the first four, which still separate judges (only `stj eval`)
  NAME          read from the hub
  NAME:PLACE    read from a .jsonl, .ndjson, .json, .csv (each also as .gz) or
                .parquet file, or from a directory of them, in the benchmark's
                published schema. A .json file is held in memory whole; others
                are read as a stream.
  pairs:FILE    any file with instruction or prompt, and chosen and rejected, or
                response_a, response_b and winner or label
  attacks:FILE  the same pairs, each also under attack, as in `stj attack`
  grades:FILE   responses with true scores; `stj score` reads recorded grades
"""
RECORDED_HELP = """\
Fields of recorded judgments, one judgment a row:
  texts    judgment_ab (the first response shown as A) and judgment_ba (the
           second response shown as A). Give one of them if one order was
           judged; null means "not asked", and "" has no verdict. A list holds
           votes. Also read: lines of `stj judge` (with --benchmark pairs),
           FastChat's g1_judgment and g2_judgment (with question_id, model_1,
           model_2 and turn), JudgeBench's `judgments`, LLMBar's `results`.
           For rewardbench2, `judgments` maps the label of the good answer
           (A to D) to the text; or give `ratings` of the answers, the good
           ones first, with num_correct.
  better   label or winner: A, B, response_a, model_a, A>B, 1 and the like; or
           chosen and rejected. `winner` counts only without the others, and not
           beside a judge's name, g1_winner or winner_ab. Not needed for
           rewardbench, rmbench and hhh: there the first response is the chosen
           one.
  format   --format NAME, if the texts are not in the benchmark's own format:
           figure8, fastchat, arena, judgebench, prometheus, llmbar, judgelm,
           pandalm, auto-j, boxed, letter, decision; best-of-four; and for
           grades of single answers rating, fastchat-grade, prometheus-grade.
           With --benchmark grades: prometheus, flow, fastchat, selene, line,
           json or number
  subset   as the benchmark has it: subset, source and response_model,
           question_id and turn, domain and styles
  grades   for mtbench, FastChat's grades of single answers: question_id, model,
           turn, judgment and score. With --benchmark grades any judge's: score
           (its grade, a number) or text (its words), and label (the true grade,
           a number); optionally rubric, subset, scale ("1-5"), response and id
  id       id or pair_id, unique in its subset; or question_id with its models
           and turn. Optional, like the answers (response_a and response_b, or
           chosen and rejected)
  judge    judge, judge_name, judge_model and the like, optional: the judgments
           of several judges are refused
"""
