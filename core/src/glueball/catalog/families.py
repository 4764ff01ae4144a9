"""Which first-party distribution ships a name, for those that are not installed here.

Patterns, not lists: they only serve the sentence that tells what to install, and a sentence that is right for names
of a whole style needs no update when a family gains a member.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import attrs


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@attrs.frozen
class Family:
    """A first-party distribution and how the names that it ships look."""

    distribution: str
    plugin: str
    summary: str
    patterns: tuple[str, ...] = attrs.field(converter=_words)
    """Written as one text, separated by spaces; matched as shells match file names."""


# The first match counts: models of the other families carry the name of a backbone too, and the last family takes what
# is left, the plain names of backbones.
FAMILIES = (
    Family(
        "glueball-cv-detection",
        "cv_detection",
        "object detection and tracking",
        "ssd_* yolo* faster_rcnn_* doublehead_rcnn_* custom_faster_rcnn_* center_net_* siamrpn_* "
        "*_voc_detection *_coco_detection voc_detection coco_detection",
    ),
    Family(
        "glueball-cv-segmentation",
        "cv_segmentation",
        "semantic and instance segmentation, depth",
        "fcn_* psp_* deeplab* danet_* icnet_* fastscnn_* mask_rcnn_* custom_mask_rcnn_* hrnet_*_s "
        "monodepth2_* ade20k* citys* *_segmentation kitti*",
    ),
    Family(
        "glueball-cv-pose-video",
        "cv_pose_video",
        "human pose and video classification",
        "simple_pose_* mobile_pose_* alpha_pose_* i3d_* slowfast_* c3d_* p3d_* r2plus1d_* *_kinetics400 "
        "*_kinetics400_int8 *_kinetics700 *_ucf101 *_ucf101_int8 *_hmdb51 *_sthsthv2 kinetics* ucf101 "
        "hmdb51 sthsthv2 *_keypoints",
    ),
    Family(
        "glueball-nlp-bert",
        "nlp_bert",
        "BERT and its relatives",
        "bert_* *bert* roberta_* ernie_* xlnet_* gpt2_* electra_* squad* glue_*",
    ),
    Family(
        "glueball-nlp-embedding-lm",
        "nlp_embedding_lm",
        "word embeddings, language models and text classification",
        "awd_lstm_lm_* standard_lstm_lm_* big_rnn_lm_* elmo_* transformerxl_* textcnn* glove* word2vec* "
        "fasttext* wikitext* gbw esim decomp_att snli bilstm_attention text_file text_classification "
        "text-classification trec mr cr subj mpqa sst sst1 sst2 sst-* sst_* imdb movie_reviews ag_news sogou_news "
        "dbpedia yelp_* yahoo_answers amazon_* wordsim353 men radinskymturk rarewords simlex999 simverb3500 "
        "semeval17task2 bakerverb143 yangpowersverb130 googleanalogytestset biggeranalogytestset",
    ),
    Family(
        "glueball-nlp-translation",
        "nlp_translation",
        "machine translation",
        "gnmt* transformer_en_de* transformer_*_wmt* wmt* iwslt*",
    ),
    Family(
        "glueball-cv-classification",
        "cv_classification",
        "image classification",
        "resnet* cifar_* mobilenet* alexnet vgg* squeezenet* densenet* inception* googlenet xception* "
        "resnext* se_resne* senet* resnest* nasnet* hrnet_* shufflenet* darknet* dla* "
        "residualattentionnet* imagenet* mnist fashion_mnist fashion-mnist cifar10* cifar100 digits image_folder "
        "image-folder image_record image_classification",
    ),
)


def family_of(name: str) -> Family | None:
    """The family whose names look like ``name``, which may also be the name of its plugin."""
    lowered = name.casefold()
    for family in FAMILIES:
        if lowered == family.plugin or any(fnmatchcase(lowered, pattern) for pattern in family.patterns):
            return family
    # Second, as people type names from memory: 'ssd512' and 'FasterRCNN', and the beginning alone, 'ssd'.
    for family in FAMILIES:
        if any(_begins_loosely(lowered, pattern) for pattern in family.patterns):
            return family
    return None


def _begins_loosely(name: str, pattern: str) -> bool:
    """Whether ``name`` begins as ``pattern``, which ends in ``_*``, with or without its separators, as whole words."""
    if pattern.startswith("*") or not pattern.endswith("_*"):
        return False
    words = pattern.removesuffix("_*").split("_")
    return re.match("[_-]?".join(map(re.escape, words)) + "(?![a-z])", name) is not None
