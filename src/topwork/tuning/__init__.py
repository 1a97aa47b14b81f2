"""Fine-tuning as ``fit`` uses it: measured on pictures held out, compared with the frozen network on the same ones."""

from topwork.tuning.fitting import check_split as check_split
from topwork.tuning.fitting import check_training as check_training
from topwork.tuning.fitting import fit_tuned as fit_tuned
from topwork.tuning.next_step import fine_tuning_step as fine_tuning_step
