"""The cells, one a file. These imports are the only list: a cell named here gets every test, page and command."""

from unrolled.cells.coupled_lstm import coupled_lstm as coupled_lstm
from unrolled.cells.gru import gru as gru
from unrolled.cells.ind_rnn import ind_rnn as ind_rnn
from unrolled.cells.lstm import lstm as lstm
from unrolled.cells.min_gru import min_gru as min_gru
from unrolled.cells.min_lstm import min_lstm as min_lstm
from unrolled.cells.minimal_gated_unit import minimal_gated_unit as minimal_gated_unit
from unrolled.cells.mogrifier_lstm import mogrifier_lstm as mogrifier_lstm
from unrolled.cells.multiplicative_lstm import multiplicative_lstm as multiplicative_lstm
from unrolled.cells.peephole_lstm import peephole_lstm as peephole_lstm
from unrolled.cells.torch_gru import torch_gru as torch_gru
from unrolled.cells.torch_lstm import torch_lstm as torch_lstm
from unrolled.cells.torch_rnn_relu import torch_rnn_relu as torch_rnn_relu
from unrolled.cells.torch_rnn_tanh import torch_rnn_tanh as torch_rnn_tanh
from unrolled.cells.vanilla import vanilla as vanilla
from unrolled.equations import Program

CELLS: dict[str, Program] = {value.name: value for value in list(globals().values()) if isinstance(value, Program)}
