from benchmarks import ROOT
